"""RGS, randomised gradient smoothing: the mean of ordinary gradients at Gaussian-perturbed weights.

The gradient of the smoothed loss L_σ(θ) = E[L(θ + ε)] is estimated by (1/n) Σ ∇L(θ + ε_k), ε_k ~ N(0, σ²)
(arXiv 2403.07095). Much cheaper than PGPE, which needs only loss values; where L jumps, the mean gradient misses the
jump, so it estimates E[∇L], not ∇E[L]. With one member and σ = 0 it is plain gradient training.
"""

from __future__ import annotations

from typing import Any

import torch
from evotorch import SolutionBatch
from evotorch.algorithms.distributed.gaussian import GaussianSearchAlgorithm
from torch import Tensor

from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.searchers.asktell import AskTell, finite_mean
from gls_es.searchers.gaussian import SeededGaussian


class SmoothedGradientGaussian(SeededGaussian):
    """The distribution of RGS, of which only mu is learned, by mean gradients of the samples."""


class AntitheticGradientGaussian(SmoothedGradientGaussian):
    """The same, sampled in pairs mu ± noise (with an odd number one sample has no partner)."""

    unit = 2


class RGS(AskTell, GaussianSearchAlgorithm):  # type: ignore[misc]
    """Search by mean gradients at perturbed weights, with PGPE's constructor vocabulary, status, hooks and loggers.

    Args:
        problem: a :class:`gls_es.CertifiedTrainingProblem`.
        popsize: n, perturbed copies per step, >= 1.
        center_learning_rate: step size of the center.
        stdev_init: σ >= 0, a number or one per weight; 0 with ``popsize=1`` is plain gradient training.
        radius_init: instead of ``stdev_init``, σ √L.
        optimizer: "adam", "clipup", "sgd", an EvoTorch optimizer, or None for plain steps.
        optimizer_config: keyword arguments of the optimizer.
        antithetic: draw the copies in pairs θ ± ε.
        center_init: (L,); None: the network's own initial weights.
        distributed: let the problem's actors draw the copies; they need to be sent θ only.

    Raises:
        TypeError: the problem cannot give gradients.
        ValueError: popsize or σ out of range.
    """

    DISTRIBUTION_TYPE = SmoothedGradientGaussian
    DISTRIBUTION_PARAMS = None
    _population: SolutionBatch | None
    _members: Tensor

    def __init__(
        self,
        problem: CertifiedTrainingProblem,
        *,
        popsize: int,
        center_learning_rate: float,
        stdev_init: float | Tensor | None = None,
        radius_init: float | None = None,
        optimizer: Any = "adam",
        optimizer_config: dict[str, Any] | None = None,
        antithetic: bool = False,
        center_init: Tensor | None = None,
        distributed: bool = False,
    ) -> None:
        if not hasattr(problem, "evaluate_with_gradient"):
            raise TypeError(
                f"RGS needs first-order gradients, which {type(problem).__name__} does not give; derive the problem "
                "from gls_es.CertifiedTrainingProblem."
            )
        if popsize < 1:
            raise ValueError(f"popsize must be at least 1, not {popsize}.")
        if stdev_init is not None and bool((torch.as_tensor(stdev_init) < 0).any()):
            raise ValueError("stdev_init must not be negative.")
        if antithetic:
            self.DISTRIBUTION_TYPE = AntitheticGradientGaussian
        super().__init__(
            problem,
            popsize=popsize,
            center_learning_rate=center_learning_rate,
            stdev_learning_rate=0.0,
            stdev_init=stdev_init,
            radius_init=radius_init,
            optimizer=optimizer,
            optimizer_config=optimizer_config,
            center_init=center_init,
            distributed=distributed,
        )

    def _step_non_distributed(self) -> None:
        if self._population is None:
            self._population = SolutionBatch(
                self.problem, popsize=self._popsize, device=self._distribution.device, empty=True
            )
        self._distribution.sample(out=self._population.access_values(), generator=self.problem)
        gradient = self.problem.evaluate_with_gradient(self._population)
        self._update_distribution({"mu": -gradient})

    def ask(self) -> Tensor:
        """The members of the next generation, (P, L), which losses can be differentiated by."""
        self._members = super().ask().requires_grad_()
        return self._members

    def tell(self, losses: Tensor, gradients: Tensor | None = None) -> None:
        """Learn from the mean gradient of the members that :meth:`ask` gave.

        A member whose loss or gradient is not finite is left out of the mean.

        Args:
            losses: (P,), in the members' order.
            gradients: (P, L), of each member's loss by its weights; None: ``losses`` were computed from the members
                with autograd, and are differentiated here.

        Raises:
            ConfigError: nothing was asked, shapes do not fit, or there is no gradient to be had.
            TrainingError: no loss is finite.
        """
        batch, members = self._told(losses), self._members
        if gradients is None:
            if not losses.requires_grad:
                raise ConfigError(
                    "RGS follows gradients: compute the losses from ask()'s members with autograd, or give tell() "
                    "the gradients as well."
                )
            (gradients,) = torch.autograd.grad(losses.sum(), members)
        if gradients.shape != members.shape:
            raise ConfigError(f"tell() needs gradients of shape {tuple(members.shape)}, not {tuple(gradients.shape)}.")
        judged, mean = finite_mean(losses.detach().to(batch.access_evals()), gradients.detach().to(members))
        batch.set_evals(self._judged(judged))
        self._update_distribution({"mu": -mean})
        self._count()
