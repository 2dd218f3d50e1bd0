"""Linear functions of a network's outputs and inputs as a network of their own, so that margins bound them.

For rows g_i = Σ c_k f_k + Σ a_j x_j - d the network gets a last layer with the outputs (0, -g_1, -g_2, ...). The margin
of class 0 over class i is g_i, and every method and rounding model for margins holds for it. A row cannot be fulfilled
in a box where its margin is > 0.

Coefficients that float32 does not hold become sums of up to three numbers that it holds, one layer each, if need be
after the row was multiplied with a positive number that makes them whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from gls_es.basics.property import Row
from gls_es.basics.rounding import float32
from gls_es.errors import ConfigError

_MOST_PARTS = 3
_LARGEST, _LEAST = Fraction(2) ** 96, Fraction(1, 2**126)
"""Sizes of what a row may consist of, with room to sum and to multiply."""


class Rows(nn.Module):
    """The sum of affine functions of a module's outputs, and of a linear one of its inputs.

    Args:
        module: from inputs to outputs.
        outputs: of the flattened outputs, at least one.
        inputs: of the flattened inputs; empty where rows do not speak of them.
    """

    def __init__(self, module: nn.Module, outputs: Sequence[nn.Linear], inputs: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.module = module
        self.outputs = nn.ModuleList(outputs)
        self.inputs = nn.ModuleList(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> (B, 1 + R)."""
        reached = self.module(x).flatten(1)
        total: Tensor = self.outputs[0](reached)
        for layer in self.outputs[1:]:
            total = total + layer(reached)
        for layer in self.inputs:
            total = total + layer(x.flatten(1))
        return total


def with_rows(module: nn.Module, rows: Sequence[Row]) -> nn.Module:
    """The module with (B, 1 + R) outputs (0, -g_1, ..., -g_R), in its own floating-point format.

    Args:
        module: from inputs to outputs, flattened if need be.
        rows: R inequalities.

    Raises:
        ConfigError: a row's numbers are too fine for three float32 numbers each, or too far apart.
    """
    like = next((p for p in module.parameters()), torch.zeros(()))
    scaled = [_representable(row) for row in rows]
    outputs = _layers([row.coefficients for row in scaled], [_at_least(row.offset) for row in scaled], like)
    if not any(row.inputs for row in rows):
        if len(outputs) == 1:
            return nn.Sequential(module, nn.Flatten(), outputs[0]).eval()
        return Rows(module, outputs, []).eval()
    n = max(len(row.inputs) for row in rows)
    return Rows(module, outputs, _layers([row.inputs or (Fraction(0),) * n for row in scaled], None, like)).eval()


def unscaled(row: Row) -> bool:
    """Whether :func:`with_rows` takes a row without an offset as it is: each coefficient is one float32 number."""
    return max(map(abs, (*row.coefficients, *row.inputs))) <= _LARGEST and _parts(row) == 1


def settled(row: Row, largest: float | None) -> bool | None:
    """Whether a row always holds, or never does, for whatever finite numbers of a format; None where it depends.

    Args:
        row: the row.
        largest: the format's largest number, which outputs and inputs are not beyond; None if there is none.
    """
    size = sum(map(abs, (*row.coefficients, *row.inputs)), Fraction(0))
    if size and largest is None:
        return None
    reach = size and Fraction(largest or 0) * size
    if -row.offset > reach or (row.strict and -row.offset == reach):
        return False
    return True if row.offset > reach or (row.offset == reach and not row.strict) else None


def _layers(table: Sequence[Sequence[Fraction]], offsets: list[float] | None, like: Tensor) -> list[nn.Linear]:
    """Layers that sum to x -> (0, offsets - table x); the first has the offsets."""
    weights: list[Tensor] = []
    rest = [list(row) for row in table]
    while not weights or any(map(any, rest)):
        part = [[float32(value) for value in row] for row in rest]
        rest = [[a - Fraction(b) for a, b in zip(row, held, strict=True)] for row, held in zip(rest, part, strict=True)]
        weights.append(torch.tensor([[0.0] * len(part[0]), *part], dtype=torch.float64).neg())
    return [
        _linear(weight, [0.0, *offsets] if number == 0 and offsets is not None else None, like)
        for number, weight in enumerate(weights)
    ]


def _linear(weight: Tensor, bias: list[float] | None, like: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], len(weight), bias=bias is not None, device="meta", dtype=like.dtype)
    layer.weight = nn.Parameter(weight.to(like))
    if bias is not None:
        layer.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64).to(like))
    return layer


def _representable(row: Row) -> Row:
    """The row, times a positive number that makes its coefficients few float32 numbers each."""
    numbers = (*row.coefficients, *row.inputs)
    factor = math.lcm(*(c.denominator for c in numbers))
    common = math.gcd(*(c.numerator * (factor // c.denominator) for c in numbers)) or factor
    choices = [fitted for scale in (Fraction(1), Fraction(factor, common)) if (fitted := _fitted(row, scale))]
    if not choices:
        raise ConfigError("an inequality has coefficients too fine for float32, or too far apart; round them")
    return min(choices, key=_parts)


def _fitted(row: Row, scale: Fraction) -> Row | None:
    """The row times ``scale``, and a power of two if its numbers are too large; None if they do not fit."""
    numbers = [abs(scale * c) for c in (*row.coefficients, *row.inputs, row.offset)]
    largest = max(numbers)
    if largest > _LARGEST:
        scale /= 2 ** (largest // _LARGEST).bit_length()
    found = replace(
        row,
        coefficients=tuple(scale * c for c in row.coefficients),
        inputs=tuple(scale * c for c in row.inputs),
        offset=scale * row.offset,
    )
    return found if _parts(found) <= _MOST_PARTS else None


def _parts(row: Row) -> int:
    """How many float32 numbers the finest coefficient is a sum of; more than can be if one of them is too small."""
    count = 1
    for number in (*row.coefficients, *row.inputs):
        rest, parts = number, 0
        while rest and parts <= _MOST_PARTS:
            if abs(rest) < _LEAST:
                return _MOST_PARTS + 1
            rest -= Fraction(float32(rest))
            parts += 1
        count = max(count, parts)
    return count


def _at_least(number: Fraction) -> float:
    """A float32 number >= ``number``: what is proven with it is proven of the smaller one."""
    value = float32(number)
    if math.isfinite(value) and Fraction(value) < number:
        value = float(torch.nextafter(torch.tensor(value), torch.tensor(math.inf)))
    return value
