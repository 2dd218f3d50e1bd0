"""Members side by side on a CPU's cores: one thread a share of the population beats many threads in each operation.

Operations on small networks last microseconds, and splitting each of them over threads costs more than it gains, by
orders of magnitude where other programs use the cores, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_spread: list[int] = []  # how many threads the innermost whole_operations() found


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    # a worker's own operations stay on its core; the setting is per thread and leaves the main thread alone
    return ThreadPoolExecutor(workers, "gls-es", initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def whole_operations() -> Iterator[None]:
    """A context in which torch's threads go to shares of the work, and none to splitting single operations."""
    threads = torch.get_num_threads()
    _spread.append(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _spread.pop()


def workers() -> int:
    """How many threads share the work: as many as torch was told to use."""
    return _spread[-1] if _spread else torch.get_num_threads()


def each(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """``function`` of every item, in order, in several threads.

    Args:
        function: it must not change anything that other threads read; gradients are off where it runs, unless it
            switches them on.
        items: the shares of the work.
    """

    def run(item: _Item) -> _Result:
        with torch.no_grad():  # gradient mode belongs to a thread
            return function(item)

    threads = min(workers(), len(items))
    return [run(item) for item in items] if threads <= 1 else list(_pool(threads).map(run, items))


def over_members(function: Callable[[Tensor], Tensor], members: Tensor) -> Tensor:
    """``function`` of a population, without gradients, an equal share of the members in each thread.

    Args:
        function: (n, L) -> (n,); it must not change anything that other threads read.
        members: (P, L), on the CPU.

    Returns:
        (P,).
    """
    return torch.cat(each(function, members.split(math.ceil(len(members) / workers()))))
