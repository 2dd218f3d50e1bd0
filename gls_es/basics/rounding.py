"""Fractions as float32 numbers, and as decimals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
"""The largest float32 number."""


def float32(number: Fraction) -> float:
    """The float32 number nearest to a fraction, ties to even; infinite beyond float32's range."""
    if abs(number) >= 2**129:
        return math.copysign(math.inf, number)
    value = float(number)
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
        near = np.nextafter(rounded, np.float32(math.copysign(math.inf, value - float(rounded))))
    best, other = float(rounded), float(near)
    if math.isfinite(best) and math.isfinite(other) and (best + other) / 2 == value and value != number:
        # rounding to float64 has made a tie, which the second rounding may have broken the wrong way
        return max(best, other) if number > value else min(best, other)
    return best


def finite_float32(number: Fraction | float) -> float:
    """The finite float32 number nearest to a number."""
    if isinstance(number, Fraction):
        number = float32(number)
    return min(max(number, -LARGEST), LARGEST)


def beside(value: float, *, up: bool) -> float:
    """The float32 number next to another on one side; infinite behind the last."""
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.float32(value), np.float32(math.inf if up else -math.inf)))


def decimals(number: Fraction) -> int | None:
    """How many decimals write a number without rounding; None if no number of them does."""
    twos = (number.denominator & -number.denominator).bit_length() - 1
    fives, rest = 0, number.denominator >> twos
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None
