"""Numbered generations on top of EvoTorch: what evaluating a population means, whoever searches and wherever it runs.

Every call that evaluates a population is one generation; what a generation is (its minibatch, its eps) a subclass says.
A loss that is not finite becomes the worst finite one of the whole population, so that it can neither win nor spoil an
estimate.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from evotorch import Problem, Solution, SolutionBatch
from torch import Tensor

from gls_es.errors import TrainingError
from gls_es.seeding import derived_seed


class PopulationProblem(Problem):  # type: ignore[misc]
    """The EvoTorch half of :class:`gls_es.CertifiedTrainingProblem`; it knows nothing of networks and data."""

    run_seed: int
    generation: int
    _begun: bool
    _sampling: bool

    @abstractmethod
    def _enter(self, generation: int) -> None:
        """Move to a generation."""

    @abstractmethod
    def _losses_and_gradient(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (n,) of members (n, L), NaN for those left out, and the mean gradient (L,) of the others."""

    @abstractmethod
    def _status(self, nonfinite: int) -> dict[str, Any]:
        """What the problem reports after a population of which ``nonfinite`` losses were not finite."""

    def begin(self, generation: int) -> None:
        """Move to a generation: its eps and its minibatch, the same for every member and every actor.

        A training loop calls it before each step and so also fixes the noise that the searcher will draw; without it
        every evaluation of a population is the next generation.
        """
        self._enter(generation)
        self.manual_seed(derived_seed(self.run_seed, "population", generation) % 2**31)
        self._begun = True

    def _begin_if_needed(self) -> None:
        if self._sampling:
            return
        if not self._begun:
            self._enter(self.generation + 1)
        self._begun = False

    def evaluate(self, x: Solution | SolutionBatch) -> None:
        """EvoTorch's evaluation; afterwards every non-finite loss is the worst finite one of the population.

        Raises:
            TrainingError: no member has a finite loss.
        """
        batch = x.to_batch() if isinstance(x, Solution) else x
        if self.is_main:
            self._begin_if_needed()
        super().evaluate(batch)
        if self.is_main or self._sampling:  # an actor that got a piece of a population leaves it to the main process
            self._after_eval_status.update(self._replace_nonfinite(batch))

    def sample_and_compute_gradients(self, *args: Any, **kwargs: Any) -> Any:
        """EvoTorch's distributed generation; one call is one generation, however many populations it evaluates."""
        self._begin_if_needed()
        self._sampling = True
        try:
            found = super().sample_and_compute_gradients(*args, **kwargs)
        finally:
            self._sampling = False
        shares = [share for share in (found if isinstance(found, list) else [found]) if "nonfinite" in share]
        self._after_eval_status.update(self._status(sum(share["nonfinite"] for share in shares)))
        return found

    def _sample_and_compute_gradients(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        before, self._sampling = self._sampling, True
        try:
            share: dict[str, Any] = super()._sample_and_compute_gradients(*args, **kwargs)
        finally:
            self._sampling = before
        return share | {"nonfinite": self._after_eval_status["nonfinite"]}

    def evaluate_with_gradient(self, batch: SolutionBatch) -> Tensor:
        """Evaluate a population and return the mean of its members' gradients, (L,) (what RGS follows).

        Members whose loss or gradient is not finite are left out of the mean, and counted in the status.
        """
        self._parallelize()
        if self.is_main:
            self._begin_if_needed()
            self.before_eval_hook(batch)
        must_sync_after = self._sync_before()
        self._start_preparations()
        values = batch.access_values(keep_evals=True).to(self.aux_device)
        losses, gradient = self._losses_and_gradient(values)
        batch.set_evals(losses.to(batch.device))
        if must_sync_after:
            self._sync_after()
        self._after_eval_status = self._replace_nonfinite(batch)
        self._after_eval_status.update(self.after_eval_hook.accumulate_dict(batch))
        return gradient.to(batch.device)

    def _replace_nonfinite(self, batch: SolutionBatch) -> dict[str, Any]:
        """Keep what is not finite from ever winning or spoiling a gradient; count it."""
        losses = batch.access_evals(0)
        finite = torch.isfinite(losses)
        bad = len(losses) - int(finite.sum())
        if bad == len(losses):
            raise TrainingError(
                f"no member of generation {self.generation} has a finite loss; lower the learning rate or stdev."
            )
        if bad:
            batch.access_evals()[:, 0] = torch.where(finite, losses, losses[finite].max())
        return self._status(bad)

    def seed(self, value: int) -> None:
        """What EvoTorch calls on an actor to seed it (its base class lacks it in 0.6.1)."""
        self.manual_seed(value)

    @property
    def _grad_device(self) -> torch.device:
        return torch.device(self.aux_device)
