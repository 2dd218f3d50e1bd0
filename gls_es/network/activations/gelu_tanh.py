"""``gelu-tanh``: z (1 + tanh w) / 2 = z σ(2 w) with w = √(2/π) (z + 0.044715 z³) (Hendrycks & Gimpel 2016).

It falls to its least value at -0.7525..., and is convex between -1.4185... and 1.4185..., concave outside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve

_TURN = -0.7524614220710163
_BEND = 1.4185040087908284
_ROOT, _CUBE = math.sqrt(2 / math.pi), 0.044715


def _inner(z: Tensor) -> Tensor:
    return (2 * _ROOT) * (z + _CUBE * z * z * z)


def _rate(z: Tensor) -> Tensor:
    return (2 * _ROOT) * (1 + 3 * _CUBE * z * z)


def _slope(z: Tensor) -> Tensor:
    z = z.clamp(-40.0, 40.0)  # behind them the slope is 0 or 1, and cubes may overflow
    found = torch.sigmoid(_inner(z))
    return found + z * found * (1 - found) * _rate(z)


def _bend(z: Tensor) -> Tensor:
    z = z.clamp(-40.0, 40.0)
    found, rate = torch.sigmoid(_inner(z)), _rate(z)
    inner = 2 * rate + z * (12 * _ROOT * _CUBE) * z + z * rate * rate * (1 - 2 * found)
    return found * (1 - found) * inner


def gelu_tanh() -> Curve:
    """The curve."""
    bows = (
        Bow(-math.inf, -_BEND, False, _slope, _bend),
        Bow(-_BEND, _BEND, True, _slope, _bend),
        Bow(_BEND, math.inf, False, _slope, _bend),
    )

    def value(z: Tensor) -> Tensor:
        return z * torch.sigmoid(_inner(z.clamp(-40.0, 40.0)))

    return Curve(value, _slope, (-0.13, 1.13), bows=bows, turns=(_TURN,), size=(0.0, 1.0))
