"""Calls of functions that TorchScript has compiled: they may read numbers in native code, where no mode sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_KINDS: tuple[Any, ...] = (torch._C.ScriptFunction, torch._C.ScriptMethod)
_DOORS = {"prim::tolist": "tolist", "aten::format": "format", "aten::str": "str"}
"""Steps of TorchScript that make Python's values of tensors, without an operator."""


@contextmanager
def scripts_watched(opened: Callable[[str], None]) -> Iterator[None]:
    """Say, while it lasts, which of these steps a compiled function holds that is called."""
    with ExitStack() as stack:
        for kind in _KINDS:
            stack.callback(setattr, kind, "__call__", kind.__call__)
            kind.__call__ = _telling(kind.__call__, opened)
        yield


def _telling(call: Callable[..., Any], opened: Callable[[str], None]) -> Callable[..., Any]:
    def told(compiled: Any, *args: Any, **kwargs: Any) -> Any:
        text = str(compiled.inlined_graph)
        for step, name in _DOORS.items():
            if f"{step}(" in text:
                opened(name)
        return call(compiled, *args, **kwargs)

    return told
