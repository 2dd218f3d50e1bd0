"""Parts of a box that halving works on, and how they are cut into smaller ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cuttings:
    """Open parts of a box.

    Attributes:
        lower: (N, *input_shape), float64.
        upper: the same shape.
        share: of the box, 2^-halvings, (N,).
        origin: where the bounds of what a part was halved from are kept, (N,); -1: nowhere.
    """

    lower: Tensor
    upper: Tensor
    share: Tensor
    origin: Tensor

    def __len__(self) -> int:
        return len(self.share)

    def at(self, index: Tensor | slice) -> Cuttings:
        """The parts at the given places, or where a mask holds."""
        return Cuttings(self.lower[index], self.upper[index], self.share[index], self.origin[index])

    def joined(self, other: Cuttings) -> Cuttings:
        """These parts, then the others."""
        mine, theirs = (vars(parts).values() for parts in (self, other))
        return Cuttings(*(torch.cat(pair) for pair in zip(mine, theirs, strict=True)))


def divisible_inputs(lower: Tensor, upper: Tensor) -> Tensor:
    """Where float64 numbers lie between the ends, (B, n)."""
    middle = lower / 2 + upper / 2
    return ((lower < middle) & (middle < upper)).flatten(1)


def chosen_axes(lower: Tensor, upper: Tensor, reach: Tensor, divisible: Tensor) -> Tensor:
    """The input to halve, (B,): the one that moves most, (B, n), of those that can be."""
    width = (upper - lower).flatten(1).masked_fill(~divisible, -1.0)
    reach = reach.masked_fill(~divisible, -1.0)
    return torch.where(reach.amax(dim=1) > 0, reach.argmax(dim=1), width.argmax(dim=1))


def halved(parts: Cuttings, axis: Tensor) -> Cuttings:
    """Both halves of every part."""
    low, up = parts.lower.flatten(1), parts.upper.flatten(1)
    rows = torch.arange(len(axis))
    middle = low[rows, axis] / 2 + up[rows, axis] / 2
    first, second = up.clone(), low.clone()
    first[rows, axis] = middle
    second[rows, axis] = middle
    shape = (-1, *parts.lower.shape[1:])
    ends = torch.cat([low, second]).reshape(shape), torch.cat([first, up]).reshape(shape)
    return Cuttings(*ends, parts.share.repeat(2) / 2, parts.origin.repeat(2))


def quartered(parts: Cuttings, axis: Tensor, smear: Tensor) -> Cuttings:
    """Both halves of both halves of every part: along one input, then along what moves most on a half, (B, n)."""
    halves = halved(parts, axis)
    smear = smear.scatter(1, axis[:, None], smear.gather(1, axis[:, None]) / 2).repeat(2, 1)
    again = chosen_axes(halves.lower, halves.upper, smear, divisible_inputs(halves.lower, halves.upper))
    return halved(halves, again)


def depth_of(share: float) -> int:
    """How often a box was halved to a part of this share, as far as shares are told from 0."""
    return -round(math.log2(max(share, math.ulp(0.0))))
