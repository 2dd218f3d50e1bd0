"""The step of a backward pass through a layer of ReLUs: the inner loop of everything, in as few passes as possible.

With coefficients A on the outputs, the coefficients on the inputs are A m + |A| h, and the constant grows by
A · g_m + |A| · g_h, where m, h, g_m, g_h are half-sums and half-differences of the upper and lower lines (see
:class:`~gls_es.bounds.relaxation.Lines`). Splitting A by sign instead takes twice the passes over A. For gradients
only A is kept, and |A| and the products are computed again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def row_dot(a: Tensor, weight: Tensor) -> Tensor:
    """Sum over F of a (G | 1, N | 1, S, F) times weight (G | 1, N | 1, F): (G, N, S).

    A batched product with one output row runs an order of magnitude faster than one with one output column (MKL).
    """
    if a.shape[1] == 1:
        return torch.matmul(weight, a[:, 0].transpose(1, 2))
    return torch.matmul(weight.unsqueeze(2), a.transpose(2, 3)).squeeze(2)


def size_dot(a: Tensor, weight: Tensor, *, overwrite: bool = False) -> Tensor:
    """``row_dot`` of |a|.

    Args:
        a: (G | 1, N | 1, S, F).
        weight: (G | 1, N | 1, F).
        overwrite: |a| may be left in ``a``.

    Returns:
        (G, N, S).
    """
    if torch.is_grad_enabled() and a.requires_grad and not weight.requires_grad and a.shape[1] == weight.shape[1]:
        found: Tensor = _SizeDot.apply(a, weight)  # type: ignore[no-untyped-call]
        return found
    return row_dot(a.abs_() if overwrite and not torch.is_grad_enabled() else a.abs(), weight)


def relu_step(a: Tensor, lines: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Coefficients and constants after the ReLUs.

    Args:
        a: (G | 1, N | 1, S, F), not changed.
        lines: mean, half, mean_offset, half_offset, (G, N, F) each.

    Returns:
        (G, N, S, F) and (G, N, S).
    """
    mean, half, mean_offset, half_offset = lines
    if a.shape[:2] != mean.shape[:2]:
        size = a.abs()
        constant = row_dot(a, mean_offset) + row_dot(size, half_offset)
        return size * half.unsqueeze(2) + a * mean.unsqueeze(2), constant
    if torch.is_grad_enabled() and (a.requires_grad or mean.requires_grad):
        found: tuple[Tensor, Tensor] = _ReluStep.apply(a, *lines)  # type: ignore[no-untyped-call]
        return found
    return _step(a, mean, half, mean_offset, half_offset)


def _step(a: Tensor, mean: Tensor, half: Tensor, mean_offset: Tensor, half_offset: Tensor) -> tuple[Tensor, Tensor]:
    size = a.abs()
    constant = row_dot(a, mean_offset) + row_dot(size, half_offset)
    return size.mul_(half.unsqueeze(2)).addcmul_(a, mean.unsqueeze(2)), constant


class _ReluStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, *lines: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, *lines)
        return _step(a, *lines)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        a, mean, half, mean_offset, half_offset = ctx.saved_tensors
        outer, constant = gradients  # (G, N, S, F), (G, N, S)
        sign, product = a.sign(), outer * a
        d_mean, d_half = product.sum(2), product.mul_(sign).sum(2)
        row = constant.unsqueeze(2)
        d_mean_offset, d_half_offset = torch.matmul(row, a).squeeze(2), torch.matmul(row, a.abs()).squeeze(2)
        column = constant.unsqueeze(3)
        unsigned = torch.addcmul(outer * half.unsqueeze(2), column, half_offset.unsqueeze(2)).mul_(sign)
        d_a = unsigned.addcmul_(outer, mean.unsqueeze(2)).addcmul_(column, mean_offset.unsqueeze(2))
        return d_a, d_mean, d_half, d_mean_offset, d_half_offset


class _SizeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(a, weight)
        return row_dot(a.abs(), weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        a, weight = ctx.saved_tensors
        scaled = gradients[0].unsqueeze(3) * weight.unsqueeze(2)
        d_a = scaled * a.sign()
        return d_a if d_a.shape == a.shape else d_a.sum_to_size(a.shape), None


def mirrored_step(a: Tensor, lines: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The same for the rows of ``a`` followed by their negatives: (G, N, 2 S, F) and (G, N, 2 S)."""
    if torch.is_grad_enabled() and (a.requires_grad or lines[0].requires_grad):
        found: tuple[Tensor, Tensor] = _MirroredStep.apply(a, *lines)  # type: ignore[no-untyped-call]
        return found
    return _both_signs(a, *lines)


def _both_signs(
    a: Tensor, mean: Tensor, half: Tensor, mean_offset: Tensor, half_offset: Tensor
) -> tuple[Tensor, Tensor]:
    size = a.abs()
    signed, unsigned = row_dot(a, mean_offset), row_dot(size, half_offset)
    constant = torch.cat([unsigned + signed, unsigned - signed], 2)
    mean, even = mean.unsqueeze(2), size * half.unsqueeze(2)
    members, rows, specs, features = even.shape
    both = even.new_empty(members, rows, 2 * specs, features)
    torch.addcmul(even, a, mean, out=both[:, :, :specs])
    torch.addcmul(even, a, mean, value=-1, out=both[:, :, specs:])
    return both, constant


class _MirroredStep(torch.autograd.Function):
    """Lines are (G, N, F) each. The two halves are E + O and E - O with E = |a| h and O = a m: so are the gradients."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, *lines: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, *lines)
        return _both_signs(a, *lines)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        a, mean, half, mean_offset, half_offset = ctx.saved_tensors
        outer, constant = gradients  # (G, N, 2 S, F), (G, N, 2 S)
        (first, second), (above, below) = outer.chunk(2, 2), constant.chunk(2, 2)
        even, odd = first + second, first - second
        unsigned, signed = above + below, above - below  # (G, N, S)
        sign, size = a.sign(), a.abs()
        d_mean, d_half = (odd * a).sum(2), (even * size).sum(2)
        d_mean_offset, d_half_offset = _weighted_sum(signed, a), _weighted_sum(unsigned, size)
        even.mul_(half.unsqueeze(2)).addcmul_(unsigned.unsqueeze(3), half_offset.unsqueeze(2)).mul_(sign)
        odd.mul_(mean.unsqueeze(2)).addcmul_(signed.unsqueeze(3), mean_offset.unsqueeze(2))
        d_a = even.add_(odd).sum_to_size(a.shape)
        return d_a, d_mean, d_half, d_mean_offset, d_half_offset


def _weighted_sum(weight: Tensor, a: Tensor) -> Tensor:
    """Sum over S of weight (G, N, S) times a (G | 1, N | 1, S, F): (G, N, F)."""
    if a.shape[1] == 1:
        return torch.matmul(weight, a[:, 0])
    return torch.matmul(weight.unsqueeze(2), a).squeeze(2)
