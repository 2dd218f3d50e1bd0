"""Which of many images a generation sees: those from which it learns more, with weights that keep the mean unbiased.

Late in training many images have losses near 0, whose gradients are near 0, too. Importance sampling draws an image i
of N with a chance proportional to a score s_i > 0 and gives its loss the weight w_i = mean(s) / s_i; then the expected
weighted mean is the plain mean over the N, whatever the scores are. The variance is smallest for scores proportional
to the length of the image's gradient. That of the cross-entropy log(1 + Σ exp(-m)) by the margins is bounded by its
derivative 1 - exp(-loss) (Katharopoulos & Fleuret, arXiv 1803.00942, bound gradients by the last layer's in the same
way), to which a floor is added, so that no weight is large.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 0.1


def chosen(losses: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw images by systematic sampling: one random offset, and the scores' sum in equal steps.

    Args:
        losses: (N,) cross-entropies >= 0 of the candidates, in random order; NaN counts as infinite.
        size: B, how many to draw.
        generator: on the CPU.

    Returns:
        Rows (B,) in random order, of which one with a score above the sum's B-th part comes more than once, and their
        weights (B,) in float64: the expectation of the weighted mean of any values at these rows is their mean over N.
    """
    scores = FLOOR - torch.expm1(-losses.detach().double().cpu().nan_to_num(torch.inf))
    sums = scores.cumsum(0)
    places = (torch.rand((), dtype=torch.float64, generator=generator) + torch.arange(size)) * (sums[-1] / size)
    rows = torch.searchsorted(sums, places, right=True).clamp_(max=len(scores) - 1)
    rows = rows[torch.randperm(size, generator=generator)]
    return rows, scores.mean() / scores[rows]
