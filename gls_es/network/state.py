"""What a module remembers: a forward pass must leave it as it was.

What a later call could read is looked at by value: attributes of the module's parts, of their classes, and what the
functions of these classes keep, in defaults, closures, attributes and the global variables that they name.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from gls_es.network.held import Look

_SIMPLE = (bool, int, str, type(None))


def state_of(module: nn.Module, *, outside: bool = True) -> dict[str, Any]:
    """What the parts of a module, their classes and these classes' functions refer to, by name.

    Tensors count by identity, shape and value, parts of the module by identity, for they have entries of their own.

    Args:
        module: the module.
        outside: whether global variables are looked at, too; libraries fill tables there when they are first used.
    """
    found: dict[str, Any] = {}
    look = Look(outside=outside)
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name == "_modules":
                found[f"{path}.{name}"] = [(key, id(kept)) for key, kept in value.items()]
            elif name in ("_parameters", "_buffers"):
                found.update({f"{path}.{key}": look.plain(kept) for key, kept in value.items()})
            else:
                found[f"{path}.{name}"] = value if type(value) in _SIMPLE else look.plain(value)
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        for owner in kind.__mro__:
            found[f"{owner.__name__} ({owner.__module__})"] = look.plain(owner)
    return found


def contents_of(module: nn.Module) -> dict[str, Any]:
    """What the parts of a module hold, by name and value: the same for a copy that holds the same."""
    found: dict[str, Any] = {}
    look = Look(outside=False, identity=False)
    for path, part in module.named_modules():
        found[f"{path}.__class__"] = None if isinstance(part, fx.GraphModule) else id(type(part))  # each has its own
        for name, value in vars(part).items():
            if name == "training":  # whoever copies sets it
                continue
            if isinstance(value, fx.Graph):  # its nodes have names, and know each other in rings
                found[f"{path}.{name}"] = [(node.format_node(), look.plain(node.target)) for node in value.nodes]
            else:
                found[f"{path}.{name}"] = [*value] if name == "_modules" else look.plain(value)
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first attribute in which two states differ."""
    for name in (*before, *after):
        if name not in before or name not in after or before[name] != after[name]:
            return name.lstrip(".")
    return None
