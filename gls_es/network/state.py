"""What a module remembers besides its tensors' values: a forward pass must leave it as it was."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_DEPTH = 4
_REGISTERED = ("_parameters", "_buffers", "_modules")
_SIMPLE = (bool, int, str, type(None))


def state_of(module: nn.Module) -> dict[str, Any]:
    """Plain attributes of a module's parts, and of their classes, as far as values of built-in types go.

    Tensors count by identity and shape: writes to their memory are operators, which a recording sees.
    """
    found: dict[str, Any] = {}
    classes = set()
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in _REGISTERED:
                found[f"{path}.{name}"] = [(key, id(kept)) for key, kept in value.items()]
            elif not name.startswith("_") or not name.endswith("hooks"):
                found[f"{path}.{name}"] = value if type(value) in _SIMPLE else _plain(value, 0)
        classes.add(type(part))
    for kind in classes:
        if not kind.__module__.startswith("torch."):
            for name, value in vars(kind).items():
                if isinstance(value, int | float | str | bytes | list | dict | set | tuple):
                    found[f"{kind.__name__}.{name}"] = _plain(value, 0)
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first attribute in which two states differ."""
    for name in (*before, *after):
        if name not in before or name not in after or before[name] != after[name]:
            return name.lstrip(".")
    return None


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return (type(value).__name__, repr(value))
    if isinstance(value, Tensor):
        return (id(value), tuple(value.shape), str(value.dtype))
    if isinstance(value, nn.Module) or depth == _DEPTH:
        return id(value)
    if isinstance(value, dict):
        return [(repr(k) if isinstance(k, str | int) else id(k), _plain(v, depth + 1)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(v, depth + 1) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    inside = getattr(value, "__dict__", None)
    if type(value).__module__ != "builtins" and isinstance(inside, dict) and not isinstance(value, type):
        return (id(value), _plain(inside, depth + 1))
    return id(value)
