"""``softplus``: log(1 + e^(β z)) / β, with the slope σ(β z): convex (Dugas et al. 2000).

PyTorch returns z itself where β z exceeds a threshold t, which is less by up to log(1 + e^-t) / β: the curve's slack.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve


def softplus(beta: float, threshold: float) -> Curve:
    """The curve; ``beta`` > 0."""

    def value(z: Tensor) -> Tensor:
        return -F.logsigmoid(-beta * z) / beta

    def slope(z: Tensor) -> Tensor:
        return torch.sigmoid(beta * z)

    def bend(z: Tensor) -> Tensor:
        found = torch.sigmoid(beta * z)
        return beta * found * (1 - found)

    def executed(z: Tensor) -> Tensor:
        return F.softplus(z, beta, threshold)

    slack = (max(-threshold, 0.0) + math.log1p(math.exp(-abs(threshold)))) / beta * (1 + 1e-9)
    bows = (Bow(-math.inf, math.inf, True, slope, bend),)
    return Curve(value, slope, (0.0, 1.0), bows=bows, size=(1.0 / beta, 1.0), slack=slack, executed=executed)
