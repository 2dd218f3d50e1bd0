"""``clamp``: min(max(z, a), b); Hardtanh, ReLU6 and ``torch.clamp`` with both ends (Collobert 2004).

Constant, rising with slope 1, constant; two kinks. Ends are numbers of the executor's format, rounded once.
"""

from __future__ import annotations

import math

from torch import Tensor

from gls_es.network.activations.curve import Curve


def clamp(least: float, greatest: float) -> Curve:
    """The curve between ``least`` and ``greatest``, least <= greatest, both finite."""

    def value(z: Tensor) -> Tensor:
        return z.clamp(least, greatest)

    def slope(z: Tensor) -> Tensor:
        return ((z >= least) & (z < greatest)).to(z.dtype)

    return Curve(
        value,
        slope,
        (0.0, 1.0),
        straight=((-math.inf, least), (least, greatest), (greatest, math.inf)),
        kinks=(least, greatest),
        roundings=1,
        size=(max(abs(least), abs(greatest)), 0.0),
    )
