"""Parts of what an activation's input can be: the sign of a ReLU's, and for other curves one of up to 64 cells.

A curve is split at a kink, at the end of a piece, or in the middle, and each half again. A cell is a number: 0 is the
whole interval, and the halves of cell c are 2 c + 1 and 2 c + 2, the lower one first. Where a cell is split depends on
the interval of the whole ball alone, so both halves know the same point and leave nothing out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.bounds.curved import crooked, curve_of
from gls_es.network.activations.curve import Curve
from gls_es.network.graph import Node

_DEEPEST = 6
"""How often a curve's interval is halved at most; its cells are numbers below 127, which eight bits hold."""
_NARROWEST = 1e-4
"""Cells narrower than this share of their size are not split."""


@dataclass(frozen=True)
class Cell:
    """Where an input lies on a part.

    Attributes:
        lower: its bounds there.
        upper: likewise.
        sign: σ of the last split, which says σ (z - point) >= 0; 0 where there is none.
        point: where it was; None for 0 everywhere.
    """

    lower: Tensor
    upper: Tensor
    sign: Tensor
    point: Tensor | None


def cell(node: Node, lower: Tensor, upper: Tensor, code: Tensor) -> Cell:
    """The part of [lower, upper] that a code stands for: a ReLU's sign, or another curve's cell."""
    f = curve_of(node)
    if f is None:
        sign = code.to(lower.dtype)
        lower = torch.where(sign > 0, lower.clamp(min=0), lower)
        return Cell(lower, torch.where(sign < 0, upper.clamp(max=0), upper), sign, None)
    number = code.to(torch.int64) + 1  # 1 for the whole, then 2 n and 2 n + 1: its bits behind the first are the way
    depth = (number.unsqueeze(-1) >= 2 ** torch.arange(1, _DEEPEST + 1, device=code.device)).sum(-1)
    sign, point = torch.zeros_like(lower), torch.zeros_like(lower)
    for level in range(int(depth.max()) if depth.numel() else 0):
        there = level < depth
        high = (number >> (depth - 1 - level).clamp_min(0)) % 2 == 1
        middle = _split_at(f, lower, upper)
        lower = torch.where(there & high, middle, lower)
        upper = torch.where(there & ~high, middle, upper)
        sign = torch.where(there, high.to(lower.dtype) * 2 - 1, sign)
        point = torch.where(there, middle, point)
    return Cell(lower, upper, sign, point)


def _split_at(f: Curve, lower: Tensor, upper: Tensor) -> Tensor:
    """The named point of the curve that is nearest to the middle, if it lies well inside; else the middle.

    Two lines are split where they meet, wherever that is: each half is a line then.
    """
    middle = torch.lerp(lower, upper, 0.5)
    found, distance = middle, (upper - lower) * (0.499 if f.kinks and len(f.straight) == 2 and not f.bows else 0.4)
    named = {*f.kinks, *f.turns, *(end for bow in f.bows for end in (bow.start, bow.stop) if abs(end) < torch.inf)}
    for point in sorted(named):
        nearer = (middle - point).abs() < distance
        found = torch.where(nearer, torch.full_like(middle, point), found)
        distance = torch.where(nearer, (middle - point).abs(), distance)
    return found


def splittable(node: Node, lower: Tensor, upper: Tensor, code: Tensor) -> Tensor:
    """Where a part can be split further, bool."""
    f = curve_of(node)
    if f is None:
        return crooked(node, lower, upper) & (code == 0)
    part = cell(node, lower, upper, code)
    wide = part.upper - part.lower > _NARROWEST * (1 + torch.maximum(lower.abs(), upper.abs()))
    found: Tensor = f.crooked(part.lower, part.upper) & wide & (code < 2**_DEEPEST - 1)
    return found


def room(f: Curve, lower: Tensor, upper: Tensor) -> Tensor:
    """About how far a curve is from its chord on [lower, upper]: what a split can gain, >= 0."""
    ends = f.value(lower), f.value(upper)
    found = torch.zeros_like(lower)
    for share in (0.25, 0.5, 0.75):
        gap = f.value(torch.lerp(lower, upper, share)) - torch.lerp(ends[0], ends[1], share)
        found = torch.where(gap.abs() > found, gap.abs(), found)
    return found
