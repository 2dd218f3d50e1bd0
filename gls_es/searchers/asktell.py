"""Ask and tell: a searcher for people who evaluate members themselves, on the state that ``step()`` moves.

    members = searcher.ask()        # (P, L)
    losses = ...                    # (P,), however they come about
    searcher.tell(losses)           # the center has moved

For RGS the same two calls do: the members can be differentiated, and ``tell`` takes the gradient through the losses, or
is given the gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from evotorch import SolutionBatch
from torch import Tensor

from gls_es.errors import ConfigError


class AskTell:
    """What a Gaussian searcher of EvoTorch needs for it; mixed in before its class."""

    problem: Any
    _distribution: Any
    _population: SolutionBatch | None
    _popsize: int
    _ranking_method: str | None
    _first_iter: bool
    _steps_count: int
    _asked: bool = False

    def ask(self) -> Tensor:
        """The members of the next generation, (P, L).

        They are the ones that ``step()`` would draw: after ``problem.begin(generation)`` they depend on the problem's
        seed and on that number only, else on the numbers drawn before. Asking twice draws twice.
        """
        if self._population is None:
            self._population = SolutionBatch(
                self.problem, popsize=self._popsize, device=self._distribution.device, empty=True
            )
        if not self._first_iter:  # the population of an earlier step() is still to be learned from
            self._learn()
        self._distribution.sample(out=self._population.access_values(), generator=self.problem)
        self._asked = True
        members: Tensor = self._population.access_values(keep_evals=True).as_subclass(Tensor).clone()
        return members

    def tell(self, losses: Tensor) -> None:
        """Learn from the losses of the members that :meth:`ask` gave; a loss that is not finite counts as the worst.

        Args:
            losses: (P,), in the members' order; a tensor, an array or a list.

        Raises:
            ConfigError: nothing was asked, or the number of losses is another.
            TrainingError: no loss is finite.
        """
        losses = torch.as_tensor(losses)
        batch = self._told(losses)
        batch.set_evals(self._judged(losses.detach().to(batch.access_evals())))
        self._learn()
        self._count()

    def _told(self, losses: Tensor) -> SolutionBatch:
        if not self._asked or self._population is None:
            raise ConfigError("tell() has nothing to learn from: call ask() first, once for every tell().")
        if tuple(losses.shape) != (self._popsize,):
            raise ConfigError(f"tell() needs {self._popsize} losses, one for each member, not {tuple(losses.shape)}.")
        self._asked = False
        return self._population

    def _judged(self, losses: Tensor) -> Tensor:
        judged, status = self.problem._finite(losses)
        self.problem._after_eval_status = status
        return judged  # type: ignore[no-any-return]

    def _learn(self) -> None:
        """Follow the gradient of the evaluated population at once, which EvoTorch puts off until the next step."""
        assert self._population is not None
        gradients = self._distribution.compute_gradients(
            self._population.access_values(keep_evals=True),
            self._population.access_evals()[:, 0],
            objective_sense=self.problem.senses[0],
            ranking_method=self._ranking_method,
        )
        self._update_distribution(gradients)
        self._first_iter = True

    def _count(self) -> None:
        self.clear_status()
        self._steps_count += 1
        self.update_status({"iter": self._steps_count})
        self.update_status(self.problem.status)

    def _update_distribution(self, gradients: dict[str, Any]) -> None:
        super()._update_distribution(gradients)  # type: ignore[misc]

    def clear_status(self) -> None:
        """EvoTorch's: forget what was reported of the last generation."""
        super().clear_status()  # type: ignore[misc]

    def update_status(self, status: Any) -> None:
        """EvoTorch's: report more of this generation."""
        super().update_status(status)  # type: ignore[misc]


def finite_mean(losses: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Losses with NaN for members that cannot be used, and the mean gradient of the others.

    Args:
        losses: (P,).
        gradients: (P, L).

    Returns:
        (P,) and (L,).
    """
    finite = torch.isfinite(losses) & torch.isfinite(gradients).all(1)
    return losses.masked_fill(~finite, torch.nan), gradients[finite].sum(0) / max(int(finite.sum()), 1)
