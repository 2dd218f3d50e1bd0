"""``hard-swish``: z min(max(z + 3, 0), 6) / 6 (Howard et al. 2019, MobileNetV3).

Zero up to -3, the parabola z (z + 3) / 6 with its least value at -3/2, and z from 3 on; its slope falls at both kinks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve


def hard_swish() -> Curve:
    """The curve."""

    def value(z: Tensor) -> Tensor:
        return z * ((z + 3).clamp(0.0, 6.0) / 6)

    def middle(z: Tensor) -> Tensor:
        return (2 * z.clamp(-3.0, 3.0) + 3) / 6

    def slope(z: Tensor) -> Tensor:
        return torch.where(z >= 3, 1.0, torch.where(z < -3, 0.0, middle(z)))

    bow = Bow(-3.0, 3.0, True, middle, lambda z: torch.full_like(z, 1 / 3))
    return Curve(
        value,
        slope,
        (-0.5, 1.5),
        straight=((-math.inf, -3.0), (3.0, math.inf)),
        bows=(bow,),
        turns=(-1.5,),
        kinks=(-3.0, 3.0),
        size=(0.0, 2.0),
    )
