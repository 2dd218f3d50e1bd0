"""``abs``: |z|. Slopes -1 and 1, a turning point with a kink at 0; exact in floating point."""

from __future__ import annotations

import math

from torch import Tensor

from gls_es.network.activations.curve import Curve


def absolute() -> Curve:
    """The curve."""

    def slope(z: Tensor) -> Tensor:
        return (z >= 0).to(z.dtype) * 2 - 1

    return Curve(
        Tensor.abs,
        slope,
        (-1.0, 1.0),
        straight=((-math.inf, 0.0), (0.0, math.inf)),
        turns=(0.0,),
        kinks=(0.0,),
        roundings=0,
        size=(0.0, 1.0),
    )
