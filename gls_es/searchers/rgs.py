"""RGS, randomised gradient smoothing: the mean of ordinary gradients at Gaussian-perturbed weights.

The gradient of the smoothed loss L_σ(θ) = E[L(θ + ε)] is estimated by (1/n) Σ ∇L(θ + ε_k), ε_k ~ N(0, σ²)
(arXiv 2403.07095). Much cheaper than PGPE, which needs only loss values; where L jumps, the mean gradient misses the
jump, so it estimates E[∇L], not ∇E[L]. With one member and σ = 0 it is plain gradient training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from evotorch import SolutionBatch
from evotorch.algorithms.distributed.gaussian import GaussianSearchAlgorithm
from torch import Tensor

from gls_es.basics.checks import dense_numbers, real_number, whole_number
from gls_es.basics.modes import ordinary_modes
from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import OPTIMIZERS
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
        ConfigError (a ValueError): popsize, σ, step size, optimizer or center that makes no sense.
    """

    DISTRIBUTION_TYPE = SmoothedGradientGaussian
    DISTRIBUTION_PARAMS = None
    _population: SolutionBatch | None
    _members: Tensor

    @ordinary_modes()
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
        popsize = whole_number("popsize", popsize, least=1)
        center_learning_rate = _positive("center_learning_rate", center_learning_rate)
        if (stdev_init is None) == (radius_init is None):
            raise ConfigError("RGS takes either stdev_init or radius_init: give one of them.")
        if radius_init is not None:
            radius_init = real_number("radius_init", radius_init, "at least 0", least=0)
        _check_stdev(stdev_init, problem.solution_length)
        _check_optimizer(optimizer, optimizer_config)
        _check_center(center_init, problem.solution_length)
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

    @ordinary_modes()
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
        losses = torch.as_tensor(losses)
        batch, members = self._told(losses), self._members
        if gradients is None:
            if not losses.requires_grad:
                raise ConfigError(
                    "RGS follows gradients: compute the losses from ask()'s members with autograd, or give tell() "
                    "the gradients as well."
                )
            (gradients,) = torch.autograd.grad(losses.sum(), members)
        gradients = torch.as_tensor(gradients)
        if gradients.shape != members.shape:
            raise ConfigError(f"tell() needs gradients of shape {tuple(members.shape)}, not {tuple(gradients.shape)}.")
        judged, mean = finite_mean(losses.detach().to(batch.access_evals()), gradients.detach().to(members))
        batch.set_evals(self._judged(judged))
        self._update_distribution({"mu": -mean})
        self._count()


def _positive(name: str, value: Any) -> float:
    number = real_number(name, value, "greater than 0", least=0)
    if number == 0:
        raise ConfigError(f"{name} must be greater than 0, not 0.")
    return number


def _check_stdev(stdev: Any, length: int) -> None:
    """Refuse a σ that is no number, or not one for each weight; None is given where there is a radius."""
    if stdev is None:
        return
    if not isinstance(stdev, Tensor):
        real_number("stdev_init", stdev, "a number that must not be negative", least=0)
        return
    values = dense_numbers("stdev_init", stdev)
    if values.numel() != 1 and tuple(values.shape) != (length,):
        raise ConfigError(f"stdev_init must be one number, or {length} of them, not {tuple(values.shape)}.")
    if not bool((values.isfinite() & (values >= 0)).all()):
        raise ConfigError("stdev_init must not be negative, and finite.")


def _check_optimizer(optimizer: Any, config: Any) -> None:
    """Refuse what EvoTorch can make no optimizer of."""
    known = isinstance(optimizer, str) and optimizer in (*OPTIMIZERS, "clipsgd", "clipsga", "sga")
    if not (optimizer is None or known or callable(optimizer) or hasattr(optimizer, "ascent")):
        raise ConfigError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {optimizer!r}.")
    if not (config is None or isinstance(config, Mapping)):
        raise ConfigError(f"optimizer_config must be a dict of the optimizer's arguments, not {config!r}.")


def _check_center(center: Any, length: int) -> None:
    if center is None:
        return
    values = dense_numbers("center_init", center)
    if tuple(values.shape) != (length,) or not bool(values.isfinite().all()):
        raise ConfigError(f"center_init must be {length} finite numbers, not {tuple(values.shape)}.")
