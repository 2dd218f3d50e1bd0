"""Compiled passes as functions that PyTorch differentiates: nothing but weights and lines is kept for the gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gls_es.kernels.chain import Chain


def differentiable(chain: Chain, members: int, images: int) -> Tensor:
    """What ``chain.run`` gives, with gradients for ``chain.leaves()``.

    The coefficients are computed again for the gradient, one position at a time, so that a pass keeps no memory.
    """
    found: Tensor = _Run.apply(chain, members, images, *chain.leaves())  # type: ignore[no-untyped-call]
    return found


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chain: Chain, members: int, images: int, *leaves: Tensor) -> Tensor:
        ctx.chain = chain
        ctx.save_for_backward(*leaves)  # so that changes in place are noticed
        return chain.run(members, images)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        assert len(ctx.saved_tensors) == len(ctx.chain.leaves())
        return (None, None, None, *ctx.chain.slopes(gradients[0], ctx.needs_input_grad[3:]))
