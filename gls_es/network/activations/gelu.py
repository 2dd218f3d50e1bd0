"""``gelu``: z Φ(z), with the slope Φ + z φ and the bend φ (2 - z²) (Hendrycks & Gimpel 2016).

It falls to its least value at -0.7518..., and is convex between -√2 and √2, concave outside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve

_TURN = -0.7517915246935645


def _normal(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))


def _below(z: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-z * math.sqrt(0.5))


def _slope(z: Tensor) -> Tensor:
    return _below(z) + z * _normal(z)


def _bend(z: Tensor) -> Tensor:
    return _normal(z) * (2 - z * z)


def gelu() -> Curve:
    """The curve."""
    edge = math.sqrt(2.0)
    bows = (
        Bow(-math.inf, -edge, False, _slope, _bend),
        Bow(-edge, edge, True, _slope, _bend),
        Bow(edge, math.inf, False, _slope, _bend),
    )
    return Curve(lambda z: z * _below(z), _slope, (-0.13, 1.13), bows=bows, turns=(_TURN,), size=(0.0, 1.0))
