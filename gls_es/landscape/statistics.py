"""How rough a loss is along a line: true jumps, found by bisection, and sensitivity.

A difference of the loss over an interval says nothing of continuity: it may be steep. A jump is what is left of it when
the interval is halved again and again. Relaxations with switches (``crown``'s lower slope at u = -l, ``hbox`` at l = 0)
jump; ``ibp`` and ``deepz`` are continuous (arXiv 2102.06700), so nothing is left of any interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.landscape.lines import Line

HALVINGS = 32
"""An interval shrinks by 2^32 before what is left of a difference counts as a jump."""

LEAST_JUMP = 1e-5
"""A remaining difference counts as a jump from this fraction of the loss' range on: far above what a continuous loss of
any realistic slope has left after all halvings, and above float64's rounding."""


@dataclass(frozen=True)
class Statistics:
    """What a line says of a relaxation.

    Attributes:
        method: the relaxation.
        jumps: true jumps among the examined intervals, those with the largest differences.
        examined: how many intervals were examined.
        largest_jump: height of the largest jump, in units of the loss.
        places: where the jumps are, t, the largest first.
        range: largest minus smallest loss on the line.
        variation: sum of the absolute differences of neighbours over ``range``: 1 if the loss is monotone, 2 for one
            valley with walls of equal height, more for every further wiggle.
        minima: local minima on the grid.
        sensitivity: root mean square of the loss' slope along the line, loss per unit of t.
    """

    method: str
    jumps: int
    examined: int
    largest_jump: float
    range: float
    variation: float
    minima: int
    sensitivity: float
    places: tuple[float, ...] = ()


def statistics(line: Line, steps: Tensor, losses: Tensor, *, examine: int = 16) -> Statistics:
    """The statistics of a line whose losses at ``steps`` are known.

    Args:
        line: the line; float64 is advised, since jumps are sought at distances of 1e-12.
        steps: t in ascending order, (T,).
        losses: L(θ + t d), (T,).
        examine: how many intervals, largest differences first, are searched for jumps.
    """
    differences = losses.diff()
    span = float(losses.max() - losses.min())
    examine = min(examine, len(differences))
    chosen = differences.abs().topk(examine).indices
    places, heights = _narrowed(line, steps[:-1][chosen], steps[1:][chosen], losses[:-1][chosen], losses[1:][chosen])
    jumps = heights.abs() > LEAST_JUMP * max(span, torch.finfo(losses.dtype).tiny)
    order = heights.abs().argsort(descending=True)
    inner = (losses[1:-1] < losses[:-2]) & (losses[1:-1] <= losses[2:])
    slopes = differences / steps.diff().to(losses)
    return Statistics(
        method=line.batch.stage.method,
        jumps=int(jumps.sum()),
        examined=examine,
        largest_jump=float(heights.abs().max()) if bool(jumps.any()) else 0.0,
        range=span,
        variation=float(differences.abs().sum()) / span if span > 0 else 0.0,
        minima=int(inner.sum()),
        sensitivity=float(slopes.square().mean().sqrt()),
        places=tuple(places[order][jumps[order]].tolist()),
    )


def jump_heights(line: Line, left: Tensor, right: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """What is left of the loss' difference over intervals after halving them towards the larger part, (n,).

    Args:
        line: the line.
        left: lower ends t, (n,).
        right: upper ends t, (n,).
        low: losses at ``left``, (n,).
        high: losses at ``right``, (n,).
    """
    return _narrowed(line, left, right, low, high)[1]


def _narrowed(line: Line, left: Tensor, right: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Where the halving ends, and what is left of the difference there, (n,) each."""
    for _ in range(HALVINGS):
        middle = (left + right) / 2
        between = line.losses(middle)
        lower = (between - low).abs() >= (high - between).abs()  # the larger difference lies in the lower half
        left, low = torch.where(lower, left, middle), torch.where(lower, low, between)
        right, high = torch.where(lower, middle, right), torch.where(lower, between, high)
    return left, high - low
