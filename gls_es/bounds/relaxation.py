"""Lines that enclose ReLU on an interval [l, u], and what a backward pass needs of them.

A neuron with l >= 0 is the identity, one with u <= 0 is zero. Otherwise the upper line is s (z - l) with
s = u / (u - l), and the lower line is λ z; the choice of λ is the method's (Zhang et al. 2018; Singh et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es import kernels

LowerSlope = Callable[[Tensor, Tensor, Tensor], Tensor]
"""λ from (l, u, s); it must be 1 where l >= 0 < u and 0 where u <= 0."""


def adaptive(lower: Tensor, upper: Tensor, _slope: Tensor) -> Tensor:
    """1 iff u > -l: the smaller area. Piecewise constant, so it jumps where u = -l, and has no gradient."""
    return (upper + lower > 0).to(lower.dtype)


def same(_lower: Tensor, _upper: Tensor, slope: Tensor) -> Tensor:
    """The upper line's slope (parallel lines, as in DeepZ and Fast-Lin)."""
    return slope


def zero(lower: Tensor, upper: Tensor, _slope: Tensor) -> Tensor:
    """0 for every unstable neuron."""
    return ((lower >= 0) & (upper > 0)).to(lower.dtype)


def one(_lower: Tensor, upper: Tensor, _slope: Tensor) -> Tensor:
    """1 for every unstable neuron."""
    return (upper > 0).to(upper.dtype)


@dataclass
class Lines:
    """The two lines of a layer of ReLUs as half-sums and half-differences, (G, B, *shape) each.

    With coefficients A on the post-activations, the pre-activations' coefficients of the upper bound are
    ``A * mean + |A| * half`` and the constant grows by ``A · mean_offset + |A| · half_offset``: half the passes over
    A that splitting it by sign takes. The offsets contain the constant part of the pre-activation, ``base``, so that
    no bias is added anywhere else.
    """

    mean: Tensor
    half: Tensor
    mean_offset: Tensor
    half_offset: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four tensors, in the order above."""
        return self.mean, self.half, self.mean_offset, self.half_offset

    def images(self, start: int, stop: int) -> Lines:
        """The lines for the images start:stop (views)."""
        return Lines(*(v[:, start:stop] if v.shape[1] > 1 else v for v in self.parts))

    def members(self, chosen: slice) -> Lines:
        """The lines of some members (views)."""
        return Lines(*(v[chosen] if len(v) > 1 else v for v in self.parts))

    def moved(self, base: Tensor | None) -> Lines:
        """The lines for pre-activations with this constant part, broadcastable to (G, B, *shape); None: without one."""
        if base is None:
            return self
        offsets = self.mean_offset + self.mean * base, self.half_offset + self.half * base
        return Lines(self.mean, self.half, *offsets)


def enclose(lower: Tensor, upper: Tensor, base: Tensor | None, rule: LowerSlope) -> Lines:
    """The lines for pre-activations in [lower, upper].

    Args:
        lower: (G, B, *shape).
        upper: (G, B, *shape).
        base: the constant part of the pre-activation, broadcastable to (G, B, *shape); None is zero.
        rule: the method's lower slope.
    """
    if _compiled(lower, upper, base, rule):
        return Lines(*kernels.lines(lower, upper, base, rule.__name__))
    # relu() has gradient 0 at 0, so a neuron with l = u = 0 gets finite gradients from the guarded division
    above, below = torch.relu(upper), -torch.relu(-lower)
    slope = above / (above - below).clamp_min(torch.finfo(lower.dtype).tiny)
    other = rule(lower, upper, slope)
    offset = slope * below * -0.5
    mean, half = (slope + other) * 0.5, (slope - other) * 0.5
    if base is None:
        return Lines(mean, half, offset, offset)
    return Lines(mean, half, offset + mean * base, offset + half * base)


def enclose_over(lower: Tensor, upper: Tensor, base: Tensor | None, buffers: tuple[Tensor, Tensor]) -> Lines:
    """:func:`enclose` with the adaptive rule, written over its arguments: for passes without gradients.

    Args:
        lower: (G, B, *shape), given up.
        upper: (G, B, *shape), given up.
        base: broadcastable to (G, B, *shape), or None; not changed.
        buffers: two tensors to write to, shaped like ``lower``.

    Returns:
        The lines, whose tensors are ``lower``, ``upper`` and the buffers.
    """
    above, slope = buffers
    torch.clamp_min(upper, 0, out=above)
    other = upper.add_(lower).gt_(0)
    below = lower.clamp_max_(0)
    torch.sub(above, below, out=slope).clamp_min_(torch.finfo(lower.dtype).tiny)
    torch.div(above, slope, out=slope)
    offset = below.mul_(slope).mul_(-0.5)
    mean, half = torch.add(slope, other, out=above).mul_(0.5), slope.sub_(other).mul_(0.5)
    if base is None:
        return Lines(mean, half, offset, offset)
    mean_offset = torch.addcmul(offset, mean, base, out=other)
    return Lines(mean, half, mean_offset, offset.addcmul_(half, base))


def _compiled(lower: Tensor, upper: Tensor, base: Tensor | None, rule: LowerSlope) -> bool:
    """Whether the kernels make these lines: they know the rules above and no gradients."""
    if not kernels.available() or lower.device.type != "cpu" or rule not in (adaptive, same, zero, one):
        return False
    if lower.shape != upper.shape or lower.dtype not in (torch.float32, torch.float64):
        return False
    return not (torch.is_grad_enabled() and any(t.requires_grad for t in (lower, upper, base) if t is not None))
