"""Objects taken apart into what compares by value, so that a change shows whatever they are made of."""

from __future__ import annotations

import itertools
import logging
import sys
import types
import warnings
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gls_es.basics.checks import is_plain

_DEPTH = 30
_MOST = 50_000
"""Objects behind one attribute that are looked into."""
_WHOLE = 4096
_FUNCTIONS = (types.FunctionType, types.MethodType, classmethod, staticmethod)
_ATOMS = (type, types.FunctionType, types.BuiltinFunctionType)
"""What a copy shares with what it was made of."""
_LIBRARIES = (sys.stdlib_module_names | {"torch", "numpy", "gls_es"}) - {"__main__"}
"""Whose classes and functions keep nothing that a forward pass would go by."""
_APART = {
    *("builtins", "collections", "array", "itertools", "functools", "random", "numpy", "_random", "decimal"),
    *("io", "_io", "ctypes", "_ctypes"),
}
"""Whose objects tell what they hold by the protocol of ``copy``, at no cost and with no effect."""


class Look:
    """Takes objects apart, each once, and numbers them as they come.

    Args:
        outside: whether to follow functions to the global variables that they name.
        identity: whether another object that holds the same is another one; False to compare copies.
    """

    def __init__(self, *, outside: bool, identity: bool = True) -> None:
        self._outside = outside
        self._identity = identity
        self._seen: dict[int, tuple[int, Any]] = {}  # with the object, so that no identity is used again
        self._passing = 0
        self._left = _MOST

    def plain(self, value: Any, depth: int = 0) -> Any:
        """What an object holds, as something that compares by value."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return (type(value).__name__, repr(value))
        if isinstance(value, itertools.count | itertools.repeat | bytearray):
            return repr(value)
        if id(value) in self._seen:
            return self._seen[id(value)][0]
        if depth == 0:
            self._left = _MOST
        if depth > _DEPTH or (self._left <= 0 and not isinstance(value, Tensor)):
            return type(value).__name__
        self._left -= 1
        self._seen[id(value)] = (len(self._seen), value)
        if isinstance(value, Tensor):
            about = self._inside(vars(value), depth + 1) if vars(value) else None
            return (id(value) if self._identity else None, *_tensor(value), about)
        if hasattr(type(value), "__array_interface__") and not value.dtype.hasobject:  # an array of NumPy
            return (value.shape, str(value.dtype), value.tobytes())
        return (self._name(value), self._inside(value, depth + 1))

    def _name(self, value: Any) -> Any:
        """Its identity, unless it was made by the look itself."""
        if self._passing or isinstance(value, dict | list | tuple):
            return type(value).__name__
        return id(value) if self._identity or isinstance(value, _ATOMS) else type(value).__name__

    def _key(self, key: Any, depth: int) -> Any:
        if isinstance(key, tuple) and not self._identity:
            return str(self.plain(key, depth))
        return repr(key) if isinstance(key, str | int | float | bytes | tuple) else self._name(key)

    def _all(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.plain(value, depth) for value in values]

    def _inside(self, value: Any, depth: int) -> Any:
        """The same for what holds other objects."""
        if isinstance(value, type):
            own = [] if _library(value) else [v for k, v in vars(value).items() if not k.startswith("__")]
            return self._all(own, depth)
        if isinstance(value, dict):
            keys = [self._key(key, depth) for key in value]
            return [self._attributes(value, depth), keys, self._all(value.values(), depth)]
        if isinstance(value, list | tuple):
            return [self._attributes(value, depth), self._all(value, depth)]
        if isinstance(value, set | frozenset):
            return sorted(repr(key) if self._identity else str(self._key(key, depth)) for key in value)
        if isinstance(value, _FUNCTIONS):
            return self._function(value, depth)
        if isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            return None if frame is None else (frame.f_lasti, self.plain(dict(frame.f_locals), depth))
        apart = type(value).__module__.partition(".")[0] in _APART and not isinstance(value, nn.Module)
        return self._taken_apart(value, depth) if apart else self._attributes(value, depth)

    def _attributes(self, value: Any, depth: int) -> Any:
        """What an object has by name."""
        if isinstance(value, types.ModuleType | logging.Logger):  # that a message was asked for is no state
            return None
        slots = [name for kind in type(value).__mro__ for name in _listed(vars(kind).get("__slots__", ()))]
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        inside = {**held, **getattr(value, "__dict__", {})}
        return self._all([*inside, *inside.values()], depth) if inside else None

    def _function(self, value: Any, depth: int) -> Any:
        """What a function keeps between calls, and the global variables that it names."""
        inner = getattr(value, "__func__", value)
        owner = self.plain(getattr(value, "__self__", None), depth)
        code = getattr(inner, "__code__", None)
        if code is None or _library(inner):
            return owner
        cells = [_content(cell) for cell in inner.__closure__ or ()]
        kept = [inner.__defaults__, inner.__kwdefaults__, {**vars(inner)}, *cells]
        if self._outside:
            names = _names(code)
            found = [inner.__globals__.get(name, sys.modules.get(name)) for name in names]
            kept += [inner.__globals__[name] for name in names if name in inner.__globals__]
            for module in found:  # of another module what the function may name
                if isinstance(module, types.ModuleType) and module.__name__.partition(".")[0] not in _LIBRARIES:
                    kept += [vars(module)[name] for name in names if name in vars(module)]
        return [owner, *self._all(kept, depth)]

    def _taken_apart(self, value: Any, depth: int) -> Any:
        """By the protocol of ``copy``; nothing for an object that has none."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # iterators of itertools say that they will lose it
                parts = value.__reduce_ex__(4)
        except Exception:  # whatever an object raises that does not want to be copied
            return None
        if not isinstance(parts, tuple):
            return None
        self._passing += 1
        found = self._all([list(part) if isinstance(part, Iterator) else part for part in parts[1:]], depth)
        self._passing -= 1
        return found


def _tensor(value: Tensor) -> Any:
    """Shape and numbers; of many numbers their checksum."""
    known = (tuple(value.shape), str(value.dtype))
    if not is_plain(value) or value.is_quantized:
        return known
    numbers = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    held = numbers.cpu().numpy()
    return (*known, held.tobytes() if len(held) <= _WHOLE else zlib.crc32(held.data))


def _library(value: Any) -> bool:
    return str(getattr(value, "__module__", None)).partition(".")[0] in _LIBRARIES


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _names(code: types.CodeType) -> list[str]:
    """The names that a function looks up, with those of the functions defined in it."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return [*code.co_names, *inner]
