"""What bounds need to know of a function of one number: its values, its slopes, where it turns, kinks and bends.

A curve is cut into pieces on which it is straight, convex or concave. From that alone follow its extremes on an
interval (at the ends and the turning points) and the lines that enclose it (see ``gls_es.bounds.tangents``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
"""Elementwise, differentiable by autograd."""


@dataclass(frozen=True)
class Bow:
    """A piece [start, stop] on which a curve is convex or concave.

    Attributes:
        start: where it begins, -inf for nowhere.
        stop: where it ends, inf for nowhere.
        convex: which of both.
        slope: the derivative on the piece, its ends included; rising if convex, falling else.
        bend: the second derivative on the piece. It only steers searches, and may be an approximation.
    """

    start: float
    stop: float
    convex: bool
    slope: Function
    bend: Function


@dataclass(frozen=True, eq=False)
class Curve:
    """A continuous function f of one number.

    Attributes:
        value: f.
        slope: f'; at a kink any number between the slopes of both sides.
        steepness: the least and the greatest slope.
        straight: intervals on which f is a line.
        bows: pieces on which it is convex or concave; with ``straight`` they cover all numbers.
        turns: where f has a local extreme, in ascending order.
        kinks: where its slope jumps, and every end of a straight piece.
        roundings: in units of u, the unit roundoff of the executor's format, how far an executed value may be from f,
            relative to ``size``; PyTorch's and onnxruntime's functions are measured against it in
            ``tests/network/test_activation_errors.py``.
        size: numbers a and b: the size that errors are relative to is a + b |z|; None for the value's own size, of a
            curve that rises.
        slack: an absolute error that does not depend on the format: where the executed function is another one.
        executed: that function; None for f.
    """

    value: Function
    slope: Function
    steepness: tuple[float, float]
    straight: tuple[tuple[float, float], ...] = ()
    bows: tuple[Bow, ...] = ()
    turns: tuple[float, ...] = ()
    kinks: tuple[float, ...] = ()
    roundings: int = 8
    size: tuple[float, float] | None = (1.0, 0.0)
    slack: float = 0.0
    executed: Function | None = None
    steepest: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steepest", max(map(abs, self.steepness)))

    def run(self, z: Tensor) -> Tensor:
        """What is executed."""
        return self.value(z) if self.executed is None else self.executed(z)

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest value on [lower, upper], elementwise."""
        ends = self.value(lower), self.value(upper)
        if not self.turns:
            return ends if self.steepness[0] >= 0 else (ends[1], ends[0])
        least, greatest = torch.minimum(*ends), torch.maximum(*ends)
        for turn in self.turns:
            inside = self.value(held(turn, lower, upper))  # at an end where the turn lies outside
            least, greatest = torch.minimum(least, inside), torch.maximum(greatest, inside)
        return least, greatest

    def largest(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The size that errors of execution are relative to, on [lower, upper]."""
        if self.size is None:
            return torch.maximum(self.value(lower).abs(), self.value(upper).abs())
        return self.size[0] + self.size[1] * torch.maximum(lower.abs(), upper.abs())

    def crooked(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where f is no line on [lower, upper], bool."""
        found = torch.ones_like(lower, dtype=torch.bool)
        for start, stop in self.straight:
            found = found & ~((lower >= start) & (upper <= stop))
        return found


def held(point: float, lower: Tensor, upper: Tensor) -> Tensor:
    """The point of [lower, upper] that is nearest to ``point``."""
    if point == math.inf:
        return upper
    return lower if point == -math.inf else torch.minimum(lower.clamp_min(point), upper)
