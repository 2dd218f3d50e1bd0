"""The compiled library: where it lies, which instruction set of it runs, and the switch that turns it off."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

SWITCH = "GLS_ES_KERNELS"
"""The environment variable: ``off``, or the highest level to use."""

LEVELS = ("baseline", "avx2", "avx512")
"""Instruction sets on x86-64, by number; other processors have the first one, with their own vectors."""

_VERSION = 6
_off: ContextVar[bool] = ContextVar("kernels_off", default=False)


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None if it was not built, does not load, or belongs to another version."""
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_kernels{suffix}"
        if not path.is_file():
            continue
        try:
            found = ctypes.CDLL(str(path))
            if found.gls_version() == _VERSION:
                found.gls_push_room.restype = ctypes.c_int64
                return found
        except (OSError, AttributeError):
            continue
    return None


@cache
def level() -> int:
    """The number of the instruction set that runs: the processor's best one, or the lower one that was asked for."""
    found = library()
    best = 0 if found is None else int(found.gls_level())
    asked = os.environ.get(SWITCH, "")
    return min(best, LEVELS.index(asked)) if asked in LEVELS else best


@cache
def _allowed() -> bool:
    return os.environ.get(SWITCH, "").lower() not in ("off", "0", "no")


def available() -> bool:
    """Whether compiled kernels are used where they can be."""
    return not _off.get() and _allowed() and library() is not None


def which() -> str:
    """What runs, in words: ``avx512``, ``avx2``, ``baseline``, ``off``, or ``not built``."""
    if library() is None:
        return "not built"
    return LEVELS[level()] if available() else "off"


@contextmanager
def plain() -> Iterator[None]:
    """A context without compiled kernels: PyTorch computes everything, as where they are not built."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)
