"""``hard-sigmoid``: min(max(a z + b, 0), 1), Hardsigmoid with a = 1/6, b = 1/2 (Howard et al. 2019, MobileNetV3).

Constant, rising with slope a, constant; two kinks.
"""

from __future__ import annotations

import math

from torch import Tensor

from gls_es.network.activations.curve import Curve


def hard_sigmoid(factor: float, shift: float) -> Curve:
    """The curve with a = ``factor`` > 0 and b = ``shift``."""
    first, second = -shift / factor, (1.0 - shift) / factor

    def value(z: Tensor) -> Tensor:
        return (z * factor + shift).clamp(0.0, 1.0)

    def slope(z: Tensor) -> Tensor:
        return ((z >= first) & (z < second)).to(z.dtype) * factor

    return Curve(
        value,
        slope,
        (0.0, factor),
        straight=((-math.inf, first), (first, second), (second, math.inf)),
        kinks=(first, second),
        size=(2.0 * (1.0 + abs(shift)), 0.0),
    )
