"""Members side by side on a CPU's cores: one thread a share of the population beats many threads in each operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    # a worker's own operations stay on its core; the setting is per thread and leaves the main thread alone
    return ThreadPoolExecutor(workers, "gls-es", initializer=torch.set_num_threads, initargs=(1,))


def over_members(function: Callable[[Tensor], Tensor], members: Tensor) -> Tensor:
    """``function`` of a population, without gradients, in as many threads as torch uses.

    Args:
        function: (n, L) -> (n,); it must not change anything that other threads read.
        members: (P, L), on the CPU.

    Returns:
        (P,).
    """
    workers = min(torch.get_num_threads(), len(members))

    def share(part: Tensor) -> Tensor:
        with torch.no_grad():  # gradient mode belongs to a thread
            return function(part)

    if workers == 1:
        return share(members)
    return torch.cat(list(_pool(workers).map(share, members.split(math.ceil(len(members) / workers)))))
