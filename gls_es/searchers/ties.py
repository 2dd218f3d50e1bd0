"""Ranks that members with equal losses share, so that the order in which they were drawn decides nothing.

A member whose loss is not finite was given the worst finite one. EvoTorch breaks ties by index, and once more than half
of a population is out of bounds, some of it would rank above average and draw the center after it.
"""

from __future__ import annotations

import torch
from evotorch.tools.ranking import rank
from torch import Tensor


def shared(utilities: Tensor, losses: Tensor) -> Tensor:
    """Utilities with their mean in place of each where losses are equal.

    Args:
        utilities: (P,).
        losses: (P,).
    """
    values, group = torch.unique(losses, return_inverse=True)
    totals = utilities.new_zeros(len(values)).index_add_(0, group, utilities)
    return (totals / torch.bincount(group))[group]


class SharedRanks:
    """Mixed in before a distribution of EvoTorch: its gradients come from shared ranks."""

    def compute_gradients(
        self, samples: Tensor, fitnesses: Tensor, *, objective_sense: str, ranking_method: str
    ) -> dict[str, Tensor]:
        """EvoTorch's, with :func:`shared`.

        Args:
            samples: (P, L).
            fitnesses: (P,).
            objective_sense: "min" or "max".
            ranking_method: EvoTorch's name of the fitness shaping.
        """
        fitnesses = torch.as_tensor(fitnesses)
        utilities = rank(fitnesses, ranking_method, higher_is_better=objective_sense == "max")
        return self._compute_gradients(samples, shared(utilities, fitnesses), ranking_method)

    def _compute_gradients(self, samples: Tensor, weights: Tensor, ranking_used: str | None) -> dict[str, Tensor]:
        found: dict[str, Tensor] = super()._compute_gradients(samples, weights, ranking_used)  # type: ignore[misc]
        return found
