"""A closer look at a jump: on the whole line it is mostly too small to be seen."""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.landscape.lines import Line
from gls_es.landscape.statistics import HALVINGS, Statistics

POINTS = 20
"""On either side of the jump."""


def zoomed(line: Line, steps: Tensor, losses: Tensor, known: Statistics) -> tuple[Tensor, Tensor]:
    """Steps around the largest jump, and the losses there, (2 :data:`POINTS`,) each.

    The window is so wide that the loss, by its slope over the grid interval without the jump, changes by about the
    height of the jump; at most as wide as three grid intervals.

    Args:
        line: the line.
        steps: the grid, t in ascending order, (T,).
        losses: on the grid, (T,).
        known: what :func:`gls_es.landscape.statistics.statistics` says of them; at least one jump.
    """
    place, height = known.places[0], known.largest_jump
    right = int(torch.searchsorted(steps, place, right=True).clamp(1, len(steps) - 1))
    spacing = float(steps[right] - steps[right - 1])
    slope = abs(abs(float(losses[right] - losses[right - 1])) - height) / spacing
    reach = min(1.5 * spacing, height / slope if slope > 0 else spacing)
    least = 2 * spacing * 2.0**-HALVINGS  # the jump lies within so much of its place
    away = torch.linspace(least, max(reach, 2 * least), POINTS, dtype=steps.dtype)
    around = torch.cat([place - away.flip(0), place + away])
    return around, line.losses(around)
