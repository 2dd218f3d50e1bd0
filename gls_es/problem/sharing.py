"""A population in shares: how it is cut, what comes back of each share, and what a process that failed means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol, Self

import ray
import torch
from torch import Tensor

from gls_es.errors import ActorError, ConfigError, GlsEsError, TrainingError


class SharedDistribution(Protocol):
    """A search distribution that draws and estimates share by share (``gls_es.searchers.gaussian``)."""

    unit: int
    first_order: bool

    def without_extras(self) -> Self:
        """What another process needs of it."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""

    def fill(self, out: Tensor, *, seed: int, first: int) -> None:
        """Draw the units from number ``first`` on."""

    def utilities(self, fitnesses: Tensor, *, objective_sense: str, ranking_method: str | None) -> Tensor:
        """Shaped fitnesses of a whole population."""

    def sums(self, samples: Tensor, utilities: Tensor) -> dict[str, Tensor]:
        """What a share adds to the gradients."""

    def gradients(self, sums: dict[str, Tensor], popsize: int) -> dict[str, Tensor]:
        """The gradients from the sums over a whole population."""


def cut(popsize: int, unit: int, shares: int) -> list[tuple[int, int]]:
    """Cut a population into shares of whole units, as equal as can be.

    Args:
        popsize: members.
        unit: members that stay together.
        shares: how many; fewer if there are not so many units.

    Returns:
        For each share the number of its first unit, and its members.

    Raises:
        ConfigError: popsize is no multiple of shares.
    """
    if popsize % shares:
        raise ConfigError(f"popsize must be a multiple of the number of actors, {shares}, not {popsize}.")
    units = -(-popsize // unit)
    bounds = [units * i // shares for i in range(shares + 1)]
    found = [(a, min(b * unit, popsize) - a * unit) for a, b in pairwise(bounds)]
    return [(first, members) for first, members in found if members > 0]


def pooled(shares: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All losses, and the mean gradient of the members whose loss is finite, from those of each share."""
    if len(shares) == 1:
        return shares[0]
    losses = torch.cat([share[0] for share in shares])
    counts = [int(torch.isfinite(share[0]).sum()) for share in shares]
    total = torch.zeros_like(shares[0][1])
    for (_, gradient), count in zip(shares, counts, strict=True):
        total.add_(gradient, alpha=count)
    return losses, total / max(sum(counts), 1)


@contextmanager
def actors_answer(generation: int) -> Iterator[None]:
    """Turn what Ray raises into errors of ours.

    Raises:
        ActorError: an actor is gone; the searcher is as it was before this generation.
        TrainingError: an actor could not do its work.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GlsEsError):
            raise error.cause from None
        what = f"{type(error.cause).__name__}: {error.cause}"
        raise TrainingError(f"an actor failed in generation {generation} ({what}).") from error
    except ray.exceptions.RayError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ActorError(f"an actor was lost in generation {generation} ({reason.rstrip('.')}).") from error
