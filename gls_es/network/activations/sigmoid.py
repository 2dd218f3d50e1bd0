"""``sigmoid``: σ(z) = 1 / (1 + e^-z), with σ' = σ (1 - σ) and σ'' = σ' (1 - 2 σ): convex before 0, concave behind it.

Errors are relative to 1 and not to the value: onnxruntime's rational approximation is constant far below 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve


def _slope(z: Tensor) -> Tensor:
    found = torch.sigmoid(z)
    return found * (1 - found)


def _bend(z: Tensor) -> Tensor:
    found = torch.sigmoid(z)
    return found * (1 - found) * (1 - 2 * found)


def sigmoid() -> Curve:
    """The curve."""
    bows = Bow(-math.inf, 0.0, True, _slope, _bend), Bow(0.0, math.inf, False, _slope, _bend)
    return Curve(torch.sigmoid, _slope, (0.0, 0.25), bows=bows)
