"""The step of a backward pass through a layer of ReLUs: the inner loop of everything, in as few passes as possible.

With coefficients A on the outputs, the coefficients on the inputs are A m + |A| h, and the constant grows by
A · g_m + |A| · g_h, where m, h, g_m, g_h are half-sums and half-differences of the upper and lower lines (see
:class:`~gls_es.bounds.relaxation.Lines`). Splitting A by sign instead takes twice the passes over A.
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_dot(a: Tensor, weight: Tensor) -> Tensor:
    """Sum over F of a (G | 1, N | 1, S, F) times weight (G | 1, N | 1, F): (G, N, S).

    A batched product with one output row runs an order of magnitude faster than one with one output column (MKL).
    """
    if a.shape[1] == 1:
        return torch.matmul(weight, a[:, 0].transpose(1, 2))
    return torch.matmul(weight.unsqueeze(2), a.transpose(2, 3)).squeeze(2)


def relu_step(a: Tensor, lines: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Coefficients and constants after the ReLUs.

    Args:
        a: (G | 1, N | 1, S, F), not changed.
        lines: mean, half, mean_offset, half_offset, (G, N, F) each.

    Returns:
        (G, N, S, F) and (G, N, S).
    """
    mean, half, mean_offset, half_offset = lines
    size = a.abs()
    constant = row_dot(a, mean_offset) + row_dot(size, half_offset)
    if torch.is_grad_enabled() or a.shape[:2] != mean.shape[:2]:
        return size * half.unsqueeze(2) + a * mean.unsqueeze(2), constant
    return size.mul_(half.unsqueeze(2)).addcmul_(a, mean.unsqueeze(2)), constant


def mirrored_step(a: Tensor, lines: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The same for the rows of ``a`` followed by their negatives: (G, N, 2 S, F) and (G, N, 2 S)."""
    mean, half, mean_offset, half_offset = lines
    size = a.abs()
    signed, unsigned = row_dot(a, mean_offset), row_dot(size, half_offset)
    constant = torch.cat([unsigned + signed, unsigned - signed], 2)
    half, mean = half.unsqueeze(2), mean.unsqueeze(2)
    even = size * half
    if torch.is_grad_enabled():
        odd = a * mean
        return torch.cat([even + odd, even - odd], 2), constant
    members, rows, specs, features = even.shape
    both = even.new_empty(members, rows, 2 * specs, features)
    torch.addcmul(even, a, mean, out=both[:, :, :specs])
    torch.addcmul(even, a, mean, value=-1, out=both[:, :, specs:])
    return both, constant
