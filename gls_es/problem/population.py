"""Numbered generations on top of EvoTorch: what evaluating a population means, whoever searches and wherever it runs.

Every call that evaluates a population is one generation; what a generation is (its minibatch, its eps) a subclass says.
A loss that is not finite becomes the worst finite one of the whole population, so that it can neither win nor spoil an
estimate.

With actors a generation is shared out: each draws its own pairs, whose noise depends on their numbers alone, and sends
back losses; the main process shapes the fitness of the whole population, and each then sends back its share of the
gradient. So the result is that of a single process up to rounding, and no population travels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import ray
import torch
from torch import Tensor

from gls_es.basics.seeding import derived_seed, drawn_seed
from gls_es.errors import TrainingError
from gls_es.problem.evotorch_classes import Problem, Solution, SolutionBatch
from gls_es.problem.sharing import SharedDistribution, actors_answer, cut, pooled


class PopulationProblem(Problem):  # type: ignore[misc]
    """The EvoTorch half of :class:`gls_es.CertifiedTrainingProblem`; it knows nothing of networks and data."""

    run_seed: int
    generation: int
    _begun: bool
    _sampling: bool
    _share: tuple[SharedDistribution, SolutionBatch] | None = None

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
        with actors_answer(self.generation):
            super().evaluate(batch)
        if self.is_main or self._sampling:  # an actor that got a piece of a population leaves it to the main process
            self._after_eval_status.update(self._replace_nonfinite(batch))

    def sample_and_compute_gradients(
        self, distribution: Any, popsize: int, *, ranking_method: str | None = None, **options: Any
    ) -> Any:
        """EvoTorch's distributed generation; one call is one generation, however many populations it evaluates."""
        self._begin_if_needed()
        if hasattr(distribution, "without_extras"):
            result = self._shared_generation(distribution, popsize, ranking_method)
            return result if self._actors is None else [result]
        self._sampling = True
        try:
            with actors_answer(self.generation):
                found = super().sample_and_compute_gradients(
                    distribution, popsize, ranking_method=ranking_method, **options
                )
        finally:
            self._sampling = False
        shares = [share for share in (found if isinstance(found, list) else [found]) if "nonfinite" in share]
        self._after_eval_status.update(self._status(sum(share["nonfinite"] for share in shares)))
        return sorted(found, key=lambda share: share["actor"]) if isinstance(found, list) else found

    def _sample_and_compute_gradients(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        before, self._sampling = self._sampling, True
        try:
            share: dict[str, Any] = super()._sample_and_compute_gradients(*args, **kwargs)
        finally:
            self._sampling = before
        return share | {"nonfinite": self._after_eval_status["nonfinite"], "actor": self.actor_index}

    def _shared_generation(self, distribution: SharedDistribution, popsize: int, ranking: str | None) -> dict[str, Any]:
        """One generation of one of our distributions, wherever its shares are drawn."""
        seed = drawn_seed(self.generator)
        shares = cut(popsize, distribution.unit, max(self.num_actors, 1))
        with actors_answer(self.generation):
            self._parallelize()
            self.before_grad_hook()
            self._sync_before()
            sent = distribution.without_extras()
            stored = sent if self._actors is None else ray.put(sent)
            found = self._everywhere("_evaluate_share", [(stored, seed, first, n) for first, n in shares])
            if distribution.first_order:
                losses, gradient = pooled(found)
                losses, status = self._finite(losses)
                gradients = {"mu": -gradient}
            else:
                losses, status = self._finite(torch.cat(found))
                sense = self.senses[0]
                utilities = distribution.utilities(losses, objective_sense=sense, ranking_method=ranking)
                parts = utilities.split([n for _, n in shares])
                sums, *others = self._everywhere("_share_sums", [(part,) for part in parts])
                for other in others:
                    for name, total in sums.items():
                        total.add_(other[name])
                gradients = distribution.gradients(sums, popsize)
        result = {"gradients": gradients, "num_solutions": popsize, "mean_eval": float(losses.mean())}
        self._after_eval_status = status | self.after_grad_hook.accumulate_dict([result])
        return result

    def _everywhere(self, method: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Results of a method here or on the actors, with one tuple of arguments each; in the order of the actors."""
        if self._actors is None:
            return [getattr(self, method)(*given) for given in arguments]
        pairs = zip(self._actors, arguments, strict=False)
        found: list[Any] = ray.get([actor.call.remote(method, list(given), {}) for actor, given in pairs])
        return found

    def _evaluate_share(self, distribution: Any, seed: int, first: int, members: int) -> Any:
        """Draw and evaluate a share: its losses, and for a first-order searcher its mean gradient, too."""
        if isinstance(distribution, ray.ObjectRef):
            distribution = ray.get(distribution)
        distribution = distribution.to(self._grad_device)
        batch = SolutionBatch(self, members, device=self._grad_device, empty=True)
        values = batch.access_values()
        distribution.fill(values, seed=seed, first=first)
        if distribution.first_order:
            losses, gradient = self._losses_and_gradient(values)
            return losses.to(self.device), gradient.to(self.device)
        self._evaluate_batch(batch)
        self._share = distribution, batch  # until its utilities are known
        return batch.access_evals(0).to(self.device)

    def _share_sums(self, utilities: Tensor) -> dict[str, Tensor]:
        assert self._share is not None
        distribution, batch = self._share
        self._share = None
        found = distribution.sums(batch.access_values(keep_evals=True), utilities)
        return {name: total.to(self.device) for name, total in found.items()}

    def evaluate_with_gradient(self, batch: SolutionBatch) -> Tensor:
        """Evaluate a population and return the mean of its members' gradients, (L,) (what RGS follows).

        Members whose loss or gradient is not finite are left out of the mean, and counted in the status.
        """
        with actors_answer(self.generation):
            self._parallelize()
            if self.is_main:
                self._begin_if_needed()
                self.before_eval_hook(batch)
            must_sync_after = self._sync_before()
            self._start_preparations()
            values = batch.access_values(keep_evals=True)
            parts = values.tensor_split(1 if self._actors is None else min(len(self._actors), len(values)))
            losses, gradient = pooled(self._everywhere("_evaluate_with_gradient", [(part,) for part in parts]))
            batch.set_evals(losses)
            if must_sync_after:
                self._sync_after()
        self._after_eval_status = self._replace_nonfinite(batch)
        self._after_eval_status.update(self.after_eval_hook.accumulate_dict(batch))
        return gradient

    def _evaluate_with_gradient(self, values: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = self._losses_and_gradient(values.to(self.aux_device))
        return losses.to(values.device), gradient.to(values.device)

    def _replace_nonfinite(self, batch: SolutionBatch) -> dict[str, Any]:
        losses, status = self._finite(batch.access_evals(0))
        batch.access_evals()[:, 0] = losses
        return status

    def _finite(self, losses: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Keep what is not finite from ever winning or spoiling a gradient; count it.

        Raises:
            TrainingError: no loss is finite.
        """
        finite = torch.isfinite(losses)
        bad = len(losses) - int(finite.sum())
        if bad == len(losses):
            raise TrainingError(
                f"no member of generation {self.generation} has a finite loss; lower the learning rate or stdev."
            )
        return torch.where(finite, losses, losses[finite].max()), self._status(bad)

    def _parallelize(self) -> None:
        """Make the actors, if there are to be any; EvoTorch draws seeds for them, of which nothing here depends."""
        state = self.generator.get_state()
        super()._parallelize()
        self.generator.set_state(state)

    def seed(self, value: int) -> None:
        """What EvoTorch calls on an actor to seed it (its base class lacks it in 0.6.1)."""
        self.manual_seed(value)

    @property
    def aux_device(self) -> torch.device:
        """Where losses are computed: on ``device``, unless actors were given GPUs.

        EvoTorch would take a GPU wherever it sees one, also where the device is said to be the CPU.
        """
        if self._num_gpus_per_actor:
            return torch.device(super().aux_device)
        return torch.device(self.device)

    @property
    def _grad_device(self) -> torch.device:
        return self.aux_device
