"""Arguments of a problem: as checkpoints hold them, and checked."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, TypeVar

import torch

from gls_es.errors import ConfigError

_T = TypeVar("_T")


def plain_argument(value: Any) -> Any:
    """An argument as checkpoints hold it: Python's own numbers, and texts for devices and paths."""
    if isinstance(value, torch.device | PurePath):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def held(name: str, value: _T, holds: bool, wanted: str) -> _T:
    """A value that holds.

    Raises:
        ConfigError: it does not; ``wanted`` says what would.
    """
    if not holds:
        raise ConfigError(f"{name} must be {wanted}, not {value!r}.")
    return value
