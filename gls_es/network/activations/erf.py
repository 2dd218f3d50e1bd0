"""``erf``, with the slope 2 e^(-z²) / √π: convex before 0, concave behind it; older exporters write GELU with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve

_STEEPEST = 2 / math.sqrt(math.pi)


def _slope(z: Tensor) -> Tensor:
    return torch.exp(-z * z) * _STEEPEST


def _bend(z: Tensor) -> Tensor:
    return -2 * z * _slope(z)


def erf() -> Curve:
    """The curve."""
    bows = Bow(-math.inf, 0.0, True, _slope, _bend), Bow(0.0, math.inf, False, _slope, _bend)
    return Curve(torch.erf, _slope, (0.0, _STEEPEST), bows=bows)
