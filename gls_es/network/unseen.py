"""Steps that a recording cannot see: in another thread, or where a forward pass switches the watching off.

PyTorch's modes watch one thread, and can be left. So a module is run once more on tensors of a marked type, whose mark
goes over to everything that is computed from them: a step on a marked tensor that comes to the type itself, and not to
the modes, has passed them by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map


def unseen_step(module: nn.Module, images: Tensor) -> str | None:
    """The first step of a forward pass that modes do not see; None if they see all. Exceptions are the module's own.

    Args:
        module: in eval mode, a private copy.
        images: what it is run on, (B, *input_shape), a private copy, too.
    """
    found: list[str] = []

    class Marked(Tensor):
        """A type of this pass's own, so that other threads that certify meanwhile have another."""

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found.append(getattr(func, "__name__", "a step"))
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
            found.append(func.name().partition("::")[2])
            return _marked(cls, func, args, kwargs)

    with _Functions(), _Operators(Marked):
        module(Tensor._make_subclass(Marked, images))
    return found[0] if found else None


def _marked(kind: type[Tensor], func: Any, args: Any, kwargs: Any) -> Any:
    """Execute an operator; what it makes is marked if something that it was given is."""
    kwargs = kwargs or {}
    marked = any(isinstance(value, kind) for value in tree_iter((args, kwargs)))
    with torch._C._DisableTorchDispatch():
        result = func(*args, **kwargs)
        if not marked:
            return result
        return tree_map(lambda t: Tensor._make_subclass(kind, t) if _plain(t) else t, result)


def _plain(value: Any) -> bool:
    return type(value) is Tensor


class _Operators(TorchDispatchMode):
    """Lets operators through to marked tensors."""

    def __init__(self, kind: type[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kind = kind

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """As for ``recording.Recorder``: no need to import PyTorch's compiler."""
        return False

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _marked(self._kind, func, args, kwargs)


class _Functions(TorchFunctionMode):
    """The same for functions of PyTorch."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))
