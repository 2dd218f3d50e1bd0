"""TOML for the settings of a run: the standard library reads it, this writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def dump_toml(table: Mapping[str, Any]) -> str:
    """The table as TOML text; ``tomllib.loads`` gives it back.

    Args:
        table: str keys; values are str, bool, int, float, lists of these, or tables of the same. TOML knows no null:
            a key whose value is None is left out.

    Raises:
        TypeError: another value.
    """
    lines: list[str] = []
    _write(lines, table, ())
    return "\n".join(lines) + "\n"


def _write(lines: list[str], table: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """Values first: whatever follows the header of a nested table belongs to that one."""
    for key, value in table.items():
        if value is not None and not isinstance(value, Mapping):
            lines.append(f"{_key(key)} = {_value(value, key)}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            header = ".".join(_key(part) for part in (*path, key))
            lines.extend(["", f"[{header}]"])
            _write(lines, value, (*path, key))


def _key(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a TOML key is a string, not {key!r}")
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item, key) for item in value) + "]"
    raise TypeError(f"{key!r} is of type {type(value).__name__}, which TOML does not know")


def _string(text: str) -> str:
    return '"' + "".join(_character(letter) for letter in text) + '"'


def _character(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    return f"\\u{ord(letter):04X}" if ord(letter) < 0x20 or ord(letter) == 0x7F else letter
