"""Keep freed memory in the process: bounds allocate and free megabytes thousands of times a second."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BLOCK = 1 << 30
_LEARNT = (32 << 20) - (1 << 16)


@cache
def keep_freed_memory() -> bool:
    """Ask glibc to reuse large freed blocks instead of returning them to the kernel; once per process.

    By default every block of some megabytes is mapped anew and faulted in page by page on each use, which costs a
    bound computation on a CPU up to half its time. The process keeps its peak of memory until it ends.

    Returns:
        Whether there was a glibc that listened.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _BLOCK)) and bool(mallopt(_M_TRIM_THRESHOLD, 2 * _BLOCK - 1))


@cache
def reuse_freed_blocks() -> None:
    """Have glibc serve blocks of up to 32 MB from memory that it keeps; once per process, and no setting of it.

    The C library maps a block that is larger than any that was freed before, and gives it back when it is freed. Its
    own rule for blocks of up to 32 MB is to learn: freeing one raises the size from which it maps, and to twice of that
    how much free memory it keeps. So one such block is freed here, whose pages nobody has touched.
    """
    torch.empty(_LEARNT, dtype=torch.uint8)


def physical_memory() -> int | None:
    """The machine's memory in bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
