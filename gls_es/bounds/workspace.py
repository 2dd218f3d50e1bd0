"""Buffers that are written again and again, so that a bound computation on a CPU asks the system for no memory.

A C library returns large freed blocks to the kernel, and faulting their pages in anew takes longer than the arithmetic
on them. So what a pass without gradients writes goes to buffers that its thread keeps. On other devices PyTorch's own
allocator keeps freed memory, and buffers are made as usual.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST = 16 << 20
"""Buffers of more bytes are not kept: work is cut into pieces that need less wherever it can be."""


class Workspace:
    """The buffers of one thread: lent by :meth:`take`, handed back by :meth:`give`."""

    def __init__(self) -> None:
        self._free: list[Tensor] = []
        self._lent: dict[int, Tensor] = {}

    def take(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of ``shape`` with the dtype and device of ``like`` and numbers of no meaning.

        Nobody else holds it until it is handed back; results that outlive the pass must not lie in it.
        """
        count = math.prod(shape)
        if like.device.type != "cpu" or count * like.element_size() > LARGEST:
            return like.new_empty(tuple(shape))
        fitting = [b for b in self._free if b.dtype == like.dtype and b.numel() >= count]
        if fitting:
            buffer = min(fitting, key=Tensor.numel)
            self._free = [b for b in self._free if b is not buffer]
        else:
            if self._free:  # one that is too small for what is asked now makes room
                self._free.pop(0)
            with torch.inference_mode(False):  # tensors of inference mode could not be written outside it
                buffer = torch.empty(count, dtype=like.dtype)
        self._lent[buffer.data_ptr()] = buffer
        return buffer[:count].view(tuple(shape))

    def give(self, *tensors: Tensor) -> None:
        """Hand tensors back, in whatever order of axes; those that were not lent are let go."""
        for tensor in tensors:
            buffer = self._lent.pop(tensor.data_ptr(), None)
            if buffer is not None:
                self._free.append(buffer)

    def restart(self) -> None:
        """Take back what a pass that failed left lent."""
        self._free.extend(self._lent.values())
        self._lent.clear()


_OF_THREAD = threading.local()


def workspace() -> Workspace:
    """The calling thread's buffers."""
    found: Workspace | None = getattr(_OF_THREAD, "workspace", None)
    if found is None:
        found = _OF_THREAD.workspace = Workspace()
    return found
