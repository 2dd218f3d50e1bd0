"""Linear functions of a network's outputs as a network of their own, so that margins bound them.

For rows g_i = Σ c_k f_k - d the network gets a last layer with the outputs (0, -g_1, -g_2, ...). The margin of class 0
over class i is g_i, and every method and rounding model for margins holds for it. A row cannot be fulfilled in a box
where its margin is > 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import nn

from gls_es.basics.property import Row, float32
from gls_es.errors import ConfigError

_FINEST = 2**24  # whole numbers up to here are float32 numbers


def with_rows(module: nn.Module, rows: Sequence[Row]) -> nn.Sequential:
    """The module with (B, 1 + R) outputs (0, -g_1, ..., -g_R), in its own floating-point format.

    Args:
        module: from inputs to outputs, flattened if need be.
        rows: R inequalities.

    Raises:
        ConfigError: a row's coefficients are too fine for float32 even as multiples of their common divisor.
    """
    like = next((p for p in module.parameters()), torch.zeros(()))
    layer = nn.Linear(len(rows[0].coefficients), 1 + len(rows), device="meta", dtype=like.dtype)
    weight = torch.zeros(layer.weight.shape, dtype=torch.float64)
    bias = torch.zeros(layer.bias.shape, dtype=torch.float64)
    for number, row in enumerate(map(_representable, rows), start=1):
        weight[number] = -torch.tensor([float(c) for c in row.coefficients], dtype=torch.float64)
        bias[number] = _at_least(row.offset)
    layer.weight, layer.bias = (nn.Parameter(value.to(like)) for value in (weight, bias))
    return nn.Sequential(module, nn.Flatten(), layer).eval()


def _representable(row: Row) -> Row:
    """The row, times a positive number if its coefficients are not float32 numbers."""
    if all(Fraction(float32(c)) == c for c in row.coefficients):
        return row
    factor = math.lcm(*(c.denominator for c in row.coefficients))
    scaled = tuple(c * factor for c in row.coefficients)
    common = math.gcd(*(int(c) for c in scaled))
    scaled = tuple(c / common for c in scaled)
    if max(abs(c) for c in scaled) > _FINEST:
        raise ConfigError("an inequality of the outputs has coefficients too fine for float32; round them")
    return Row(scaled, row.offset * factor / common)


def _at_least(number: Fraction) -> float:
    """A float32 number >= ``number``: what is proven with it is proven of the smaller one."""
    value = float32(number)
    if math.isfinite(value) and Fraction(value) < number:
        value = float(torch.nextafter(torch.tensor(value), torch.tensor(math.inf)))
    return value
