"""Losses of margin bounds: what certified training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def robust_cross_entropy(margins: Tensor) -> Tensor:
    """Cross-entropy of the worst case that lower bounds of the margins allow.

    With m_j <= f_y - f_j on the whole box, log(1 + Σ_j exp(-m_j)) is at least the cross-entropy of every point of the
    box (Wong & Kolter 2018, Theorem 2; the loss of arXiv 2403.07095).

    Args:
        margins: lower bounds of f_y - f_j, shape (..., K-1).

    Returns:
        The losses, shape (...): ``logsumexp(0, -margins)``.
    """
    return torch.logsumexp(pad(-margins, (1, 0)), dim=-1)
