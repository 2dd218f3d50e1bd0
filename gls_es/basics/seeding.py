"""Random choices as pure functions of what they are for, so that nothing random has to be saved to resume."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derived_seed(seed: int, *purpose: int | str) -> int:
    """A 63-bit seed that depends on every argument and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """A CPU generator seeded by :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def drawn_seed(source: torch.Generator | None) -> int:
    """A 62-bit seed from a generator; None: torch's global one."""
    device = "cpu" if source is None else source.device
    return int(torch.randint(1 << 62, (), generator=source, device=device))


def minibatch_indices(seed: int, generation: int, *, size: int, total: int) -> Tensor:
    """Which images generation ``generation`` sees: a walk through one shuffled epoch after the other.

    Args:
        seed: of the run.
        generation: >= 0.
        size: images per generation; more than ``total`` means all of them.
        total: images in the training split.

    Returns:
        (min(size, total),) int64, no image twice within an epoch.
    """
    size = min(size, total)
    start = generation * size
    parts, left = [], size
    while left > 0:
        epoch, offset = divmod(start, total)
        order = torch.randperm(total, generator=generator(seed, "minibatch", epoch))
        parts.append(order[offset : offset + left])
        start, left = start + len(parts[-1]), left - len(parts[-1])
    return torch.cat(parts)
