"""``tanh``, with tanh' = 1 - tanh² and tanh'' = -2 tanh (1 - tanh²): convex before 0, concave behind it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve


def _slope(z: Tensor) -> Tensor:
    found = torch.tanh(z)
    return (1 - found) * (1 + found)


def _bend(z: Tensor) -> Tensor:
    return -2 * torch.tanh(z) * _slope(z)


def tanh() -> Curve:
    """The curve."""
    bows = Bow(-math.inf, 0.0, True, _slope, _bend), Bow(0.0, math.inf, False, _slope, _bend)
    return Curve(torch.tanh, _slope, (0.0, 1.0), bows=bows)
