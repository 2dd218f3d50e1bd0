"""``clamp``: min(max(z, a), b); Hardtanh, ReLU6 and ``torch.clamp`` with both ends (Collobert 2004).

Constant, rising with slope 1, constant; two kinks, or one where an end is missing. Ends are numbers of the executor's
format, rounded once: an executed value errs relative to itself at an end, and not at all between them, however far off
the ends are.
"""

from __future__ import annotations

import math

from torch import Tensor

from gls_es.network.activations.curve import Curve


def clamp(least: float, greatest: float) -> Curve:
    """The curve between ``least`` and ``greatest``, least <= greatest; -inf and inf for no end."""
    pieces = ((-math.inf, least), (least, greatest), (greatest, math.inf))

    def value(z: Tensor) -> Tensor:
        return z.clamp(least, greatest)

    def slope(z: Tensor) -> Tensor:
        return ((z >= least) & (z < greatest)).to(z.dtype)

    return Curve(
        value,
        slope,
        (0.0, 1.0),
        straight=tuple((start, stop) for start, stop in pieces if start < math.inf and stop > -math.inf),
        kinks=tuple(end for end in (least, greatest) if math.isfinite(end)),
        roundings=1,
        size=None,
    )
