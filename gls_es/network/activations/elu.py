"""``elu``: s z for z > 0, else s α (e^(β z) - 1); ELU (Clevert et al. 2016), SELU and CELU.

Convex before 0, straight behind it, with a kink at 0 unless α β = 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve


def elu(alpha: float, scale: float, rate: float) -> Curve:
    """The curve with α = ``alpha``, s = ``scale``, β = ``rate``, all > 0."""

    def falling(z: Tensor) -> Tensor:
        return z.clamp_max(0.0) * rate

    def value(z: Tensor) -> Tensor:
        return z.clamp_min(0.0) * scale + torch.expm1(falling(z)) * (scale * alpha)

    def left(z: Tensor) -> Tensor:
        return torch.exp(falling(z)) * (scale * alpha * rate)

    def slope(z: Tensor) -> Tensor:
        return torch.where(z > 0, scale, left(z))

    bow = Bow(-math.inf, 0.0, True, left, lambda z: left(z) * rate)
    return Curve(
        value,
        slope,
        (0.0, max(scale, scale * alpha * rate)),
        straight=((0.0, math.inf),),
        bows=(bow,),
        kinks=(0.0,),
        size=(scale * alpha, scale + scale * alpha * rate),
    )
