"""Directions in weight space, scaled so that one step means the same for every layer and every network.

A random direction is normalised tensor by tensor to the norm of the weights there (as Li et al. 2018 do filter by
filter), so t = 0.1 along it changes every layer by a tenth of its size. The gradient's direction is scaled to the norm
of all weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.basics.seeding import generator
from gls_es.network import Network


def random_direction(net: Network, center: Tensor, *, seed: int) -> Tensor:
    """A Gaussian direction with the norm of the weights in every parameter tensor, (L,).

    Args:
        net: whose parameter tensors are meant.
        center: the weights, (L,).
        seed: chooses the direction.
    """
    direction = torch.randn(center.shape, dtype=torch.float64, generator=generator(seed, "direction")).to(center)
    for place in net.named_slices().values():
        part = direction[place]
        direction[place] = part * (center[place].norm() / part.norm().clamp_min(torch.finfo(center.dtype).tiny))
    return direction


def gradient_direction(center: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the norm of the weights, (L,); zero where the gradient is zero or not finite."""
    if not bool(torch.isfinite(gradient).all() & gradient.any()):
        return torch.zeros_like(center)
    scaled: Tensor = gradient * (center.norm() / gradient.norm())
    return scaled
