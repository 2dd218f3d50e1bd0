"""A property of a network's outputs over boxes of inputs, in exact numbers: what VNN-LIB specifications say.

A property lists what must *not* happen. Each case is a box of inputs and a conjunction of linear inequalities of the
outputs; the property is violated by an input that lies in the box of one case and whose outputs fulfil all of the
case's inequalities. Robustness of class y is one case for each other class j: the ball, and f_y - f_j <= 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

Numbers = tuple[Fraction, ...]


@dataclass(frozen=True)
class Row:
    """An inequality Σ c_k f_k <= d of the outputs f.

    Attributes:
        coefficients: c, one per output.
        offset: d.
    """

    coefficients: Numbers
    offset: Fraction

    def excess(self, outputs: Sequence[Fraction]) -> Fraction:
        """Σ c_k f_k - d: the inequality holds where this is <= 0."""
        pairs = zip(self.coefficients, outputs, strict=True)
        return sum((c * f for c, f in pairs if c), Fraction(0)) - self.offset


@dataclass(frozen=True)
class Boundary:
    """A box of inputs, ends included.

    Attributes:
        lower: per input, in the row-major order of the network's input.
        upper: likewise.
    """

    lower: Numbers
    upper: Numbers

    @property
    def empty(self) -> bool:
        """Whether no point lies in it."""
        return any(low > high for low, high in zip(self.lower, self.upper, strict=True))

    def points(self) -> tuple[Tensor, Tensor]:
        """The float32 numbers nearest to the ends, (n,) each: an executor of float32 reads inputs between these."""
        return _nearest(self.lower), _nearest(self.upper)

    def outward(self) -> tuple[Tensor, Tensor]:
        """A float64 box that contains this one and its :meth:`points`, (n,) each."""
        low, high = self.points()
        lower = torch.tensor([_beside(value, up=False) for value in self.lower], dtype=torch.float64)
        upper = torch.tensor([_beside(value, up=True) for value in self.upper], dtype=torch.float64)
        return torch.minimum(lower, low.double()), torch.maximum(upper, high.double())

    def written(self, point: Tensor) -> Numbers | None:
        """Exact numbers in the box that float32 rounds to a point; None where a coordinate has no such number."""
        found = []
        for value, low, high in zip(point.flatten().tolist(), self.lower, self.upper, strict=True):
            number = min(max(Fraction(value), low), high)
            if float32(number) != value:
                return None
            found.append(number)
        return tuple(found)


@dataclass(frozen=True)
class Case:
    """One way to violate a property: an input of the box with outputs that fulfil all rows.

    Attributes:
        box: the inputs.
        rows: the inequalities, at least one.
    """

    box: Boundary
    rows: tuple[Row, ...]

    def violated_by(self, outputs: Sequence[float]) -> bool:
        """Whether these outputs, taken as exact numbers, fulfil all rows; NaN and infinities never do."""
        if not all(map(math.isfinite, outputs)):
            return False
        exact = [Fraction(value) for value in outputs]
        return all(row.excess(exact) <= 0 for row in self.rows)


@dataclass(frozen=True)
class Property:
    """What must not happen.

    Attributes:
        inputs: how many inputs it speaks of.
        outputs: how many outputs.
        cases: the ways to violate it.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]


def float32(number: Fraction) -> float:
    """The float32 number nearest to a fraction, ties to even."""
    value = float(number)
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    beside = np.nextafter(rounded, np.float32(math.copysign(math.inf, value - float(rounded))))
    best, other = float(rounded), float(beside)
    if math.isfinite(best) and math.isfinite(other) and (best + other) / 2 == value and value != number:
        # rounding to float64 has made a tie, which the second rounding may have broken the wrong way
        return max(best, other) if number > value else min(best, other)
    return best


def _nearest(numbers: Numbers) -> Tensor:
    return torch.tensor([float32(number) for number in numbers], dtype=torch.float32)


def _beside(number: Fraction, *, up: bool) -> float:
    """The float64 number next to a fraction on one side, or itself."""
    value = float(number)
    exact = Fraction(value)
    if up and exact < number:
        return math.nextafter(value, math.inf)
    if not up and exact > number:
        return math.nextafter(value, -math.inf)
    return value
