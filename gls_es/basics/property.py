"""A property of a network's outputs over boxes of inputs, in exact numbers: what VNN-LIB specifications say.

A property lists what must *not* happen. Each case is a box of inputs and a conjunction of linear inequalities of the
outputs, of the inputs, or of both; the property is violated by an input that lies in the box of one case and that,
with its outputs, fulfils all of the case's inequalities. Robustness of class y is one case for each other class j: the
ball, and f_y - f_j <= 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from gls_es.basics.rounding import beside, decimals, finite_float32, float32

Numbers = tuple[Fraction, ...]


@dataclass(frozen=True)
class Row:
    """An inequality Σ c_k f_k + Σ a_i x_i <= d of the outputs f and the inputs x, or < d.

    Attributes:
        coefficients: c, one per output.
        offset: d.
        inputs: a, one per input in row-major order; empty where the inequality is about the outputs alone.
        strict: whether equality does not fulfil it.
    """

    coefficients: Numbers
    offset: Fraction
    inputs: Numbers = ()
    strict: bool = False

    def excess(self, outputs: Sequence[Fraction], inputs: Sequence[Fraction] = ()) -> Fraction:
        """Σ c_k f_k + Σ a_i x_i - d: the inequality holds where this is <= 0, or < 0 if it is strict."""
        pairs = [*zip(self.coefficients, outputs, strict=True)]
        pairs += zip(self.inputs, inputs, strict=True) if self.inputs else ()
        return sum((c * f for c, f in pairs if c), Fraction(0)) - self.offset

    def fulfilled(self, outputs: Sequence[Fraction], inputs: Sequence[Fraction] = ()) -> bool:
        """Whether exact outputs, and inputs where it speaks of them, fulfil it."""
        excess = self.excess(outputs, inputs)
        return excess < 0 if self.strict else excess <= 0


@dataclass(frozen=True)
class Boundary:
    """A box of inputs, ends included but for those named.

    Attributes:
        lower: per input, in the row-major order of the network's input.
        upper: likewise.
        open_lower: the inputs whose lower end does not belong to the box.
        open_upper: likewise for upper ends.
        single: whether inputs are float32 numbers themselves, not real numbers that float32 rounds.
    """

    lower: Numbers
    upper: Numbers
    open_lower: frozenset[int] = frozenset()
    open_upper: frozenset[int] = frozenset()
    single: bool = False

    @property
    def empty(self) -> bool:
        """Whether no point lies in it."""
        touching = self.open_lower | self.open_upper
        return any(
            low > high or (low == high and index in touching)
            for index, (low, high) in enumerate(zip(self.lower, self.upper, strict=True))
        )

    def points(self) -> tuple[Tensor, Tensor]:
        """The float32 numbers nearest to the ends, (n,) each: an executor of float32 reads inputs between these.

        For ``single`` inputs they are the outermost float32 numbers between the ends.
        """
        low, high = [finite_float32(value) for value in self.lower], [finite_float32(value) for value in self.upper]
        if self.single or self.open_lower or self.open_upper:
            for index in range(len(low)):
                low[index], high[index] = self._inner(index, low[index], high[index])
        return torch.tensor(low, dtype=torch.float32), torch.tensor(high, dtype=torch.float32)

    def _inner(self, index: int, low: float, high: float) -> tuple[float, float]:
        """Float32 numbers near the ends, moved inside where that is asked for and leaves any."""
        lower, upper = self.lower[index], self.upper[index]
        first, last = low, high
        if (self.single and first < lower) or (index in self.open_lower and first <= lower):
            first = finite_float32(beside(first, up=True))
        if (self.single and last > upper) or (index in self.open_upper and last >= upper):
            last = finite_float32(beside(last, up=False))
        return (first, last) if first <= last else (low, high)

    def outward(self) -> tuple[Tensor, Tensor]:
        """A float64 box that contains this one and its :meth:`points`, (n,) each."""
        low, high = self.points()
        lower = torch.tensor([_not_above(value) for value in self.lower], dtype=torch.float64)
        upper = torch.tensor([-_not_above(-value) for value in self.upper], dtype=torch.float64)
        return torch.minimum(lower, low.double()), torch.maximum(upper, high.double())

    def written(self, point: Tensor) -> Numbers | None:
        """Exact numbers in the box that float32 rounds to a point; None where a coordinate has no such number.

        They have finitely many decimals, unless an end has not and float64 has no number inside.
        """
        found = []
        for index, value in enumerate(point.flatten().tolist()):
            number = self._written(index, value)
            if number is None:
                return None
            found.append(number)
        return tuple(found)

    def _written(self, index: int, value: float) -> Fraction | None:
        lower, upper, exact = self.lower[index], self.upper[index], Fraction(value)
        number = min(max(exact, lower), upper)
        if (number == lower and index in self.open_lower) or (number == upper and index in self.open_upper):
            return None
        if number == exact:
            return exact
        if self.single or float32(number) != value:
            return None
        if decimals(number) is None:
            inside = Fraction(_not_above(number) if number == upper else -_not_above(-number))
            if lower < inside < upper and float32(inside) == value:
                return inside
        return number


@dataclass(frozen=True)
class Case:
    """One way to violate a property: an input of the box that fulfils all rows with its outputs.

    Attributes:
        box: the inputs.
        rows: the inequalities, at least one.
    """

    box: Boundary
    rows: tuple[Row, ...]

    def violated_by(self, outputs: Sequence[float], inputs: Sequence[Fraction] = ()) -> bool:
        """Whether these outputs, taken as exact numbers, fulfil all rows; NaN and infinities never do.

        Args:
            outputs: one per output.
            inputs: exact numbers; needed where rows speak of them.
        """
        if not all(map(math.isfinite, outputs)):
            return False
        exact = [Fraction(value) for value in outputs]
        return all(row.fulfilled(exact, inputs) for row in self.rows)


@dataclass(frozen=True)
class Property:
    """What must not happen.

    Attributes:
        inputs: how many inputs it speaks of.
        outputs: how many outputs.
        cases: the ways to violate it.
        narrowed: whether inputs without bounds were given some: a violation then is one, but that there is none says
            nothing.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    narrowed: bool = False


def _not_above(number: Fraction) -> float:
    """The largest float64 number that is not above a fraction within float64's range."""
    value = float(number)
    return math.nextafter(value, -math.inf) if Fraction(value) > number else value
