"""``silu`` (swish): z σ(z), with the slope σ (1 + z (1 - σ)) (Elfwing et al. 2018; Ramachandran et al. 2017).

It falls to its least value at -1.278..., and is convex between the two places where z tanh(z / 2) = 2, concave outside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve

_TURN = -1.2784645427610738
_BEND = 2.3993572805154676


def _slope(z: Tensor) -> Tensor:
    found = torch.sigmoid(z)
    return found + z * found * (1 - found)


def _bend(z: Tensor) -> Tensor:
    found = torch.sigmoid(z)
    return found * (1 - found) * (2 + z * (1 - 2 * found))


def silu() -> Curve:
    """The curve."""
    bows = (
        Bow(-math.inf, -_BEND, False, _slope, _bend),
        Bow(-_BEND, _BEND, True, _slope, _bend),
        Bow(_BEND, math.inf, False, _slope, _bend),
    )
    return Curve(lambda z: z * torch.sigmoid(z), _slope, (-0.1, 1.1), bows=bows, turns=(_TURN,), size=(0.0, 1.0))
