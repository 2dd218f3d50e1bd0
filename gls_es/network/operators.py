"""ATen operators by name and argument: what their schemas say, and which of them need no translation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch


class Refused(Exception):
    """Why one step has no translation; an empty text where that was said before."""


class ParameterMisused(Refused):
    """The step reads a parameter in a way that no layer does."""


VIEWS = {
    *("aten::view", "aten::_unsafe_view", "aten::_reshape_alias", "aten::alias", "aten::detach", "aten::lift_fresh"),
    *("aten::t", "aten::transpose.int", "aten::permute", "aten::expand", "aten::unsqueeze", "aten::as_strided"),
    *("aten::squeeze", "aten::squeeze.dim", "aten::squeeze.dims", "aten::select.int", "aten::slice.Tensor"),
    *("aten::split.Tensor", "aten::split_with_sizes", "aten::unbind.int", "aten::diagonal", "aten::unfold"),
}
"""What gives another name to the same memory."""
OVERWRITES = {"aten::copy_", "aten::fill_.Scalar", "aten::fill_.Tensor", "aten::zero_"}
"""What writes to its first argument without reading it."""
UNWRITTEN = {
    *("aten::empty_like", "aten::new_empty", "aten::new_empty_strided"),
    *("aten::empty.memory_format", "aten::empty_strided", "aten::empty_permuted"),
}
"""What makes memory without values."""
SHAPES_ONLY = UNWRITTEN | {
    *("aten::zeros_like", "aten::ones_like", "aten::full_like"),
    *("aten::new_zeros", "aten::new_ones", "aten::new_full"),
}
"""What depends on nothing but the shape and type of what it is given."""
_NAMES = {"self": "x", "input": "x"}


@dataclass(frozen=True)
class Argument:
    """One argument of an operator."""

    name: str
    default: Any
    written: bool


@dataclass(frozen=True)
class Signature:
    """An operator's schema.

    Attributes:
        name: with namespace and overload, ``aten::add.Tensor``.
        short: without, for messages.
        arguments: in order.
        writes: names of the arguments whose memory it writes.
        random: whether it draws random numbers.
        composite: whether PyTorch has other operators for it, which should be looked at instead.
    """

    name: str
    short: str
    arguments: tuple[Argument, ...]
    writes: tuple[str, ...]
    random: bool
    composite: bool

    @property
    def only_writes(self) -> bool:
        """Whether what it writes to is not read."""
        return self.name in OVERWRITES or "out" in self.writes

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults included."""
        given = {argument.name: argument.default for argument in self.arguments}
        given.update(zip((a.name for a in self.arguments), args, strict=False))
        given.update(kwargs)
        return given

    def chosen(self, translate: Callable[..., int], given: dict[str, Any]) -> dict[str, Any]:
        """The arguments that a translation names; any other must have its default, for nobody looks at it."""
        named = named_arguments(translate)
        result = {}
        for argument in self.arguments:
            name, value = _NAMES.get(argument.name, argument.name), given[argument.name]
            if name in named:
                result[name] = value
            elif argument.name == "out" and argument.written:
                continue
            elif value is not argument.default and value != argument.default:
                raise Refused(f"its argument {argument.name}={value!r} has no bounds here")
        return result


@lru_cache(maxsize=4096)
def signature_of(operator: Any) -> Signature:
    """The schema of an ``torch._ops.OpOverload``."""
    name = operator.name()
    arguments = tuple(
        Argument(a.name, a.default_value, a.alias_info is not None and a.alias_info.is_write)
        for a in operator._schema.arguments
    )
    return Signature(
        name=name,
        short=name.partition("::")[2].partition(".")[0],
        arguments=arguments,
        writes=tuple(a.name for a in arguments if a.written),
        random=torch.Tag.nondeterministic_seeded in operator.tags,
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"),
    )


@lru_cache(maxsize=256)
def named_arguments(translate: Callable[..., int]) -> frozenset[str]:
    """The names of a translation's keyword-only arguments."""
    parameters = inspect.signature(translate).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
