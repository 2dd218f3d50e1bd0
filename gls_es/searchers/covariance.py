"""EvoTorch's CMA-ES, with a covariance update by matrix products and a state that can be saved."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from evotorch import algorithms
from torch import Tensor

from gls_es.searchers.holding import Holding
from gls_es.searchers.ties import shared


class CMAES(algorithms.CMAES, Holding):  # type: ignore[misc]
    """EvoTorch's CMA-ES (Hansen 2016), for few weights: it keeps L × L numbers.

    The sum of P outer products is one matrix product here; EvoTorch makes P matrices of L × L numbers first.
    """

    m: Tensor
    sigma: Tensor
    C: Tensor
    A: Tensor

    _STATE = ("m", "sigma", "C", "A", "p_sigma", "p_c")

    def __init__(self, problem: Any, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EvoTorch copies tensors in a way that torch advises against
            super().__init__(problem, **options)
        self._popsize = self.popsize

    def get_population_weights(self, xs: Tensor) -> Tensor:
        """Evaluate members, (P, L), and give their weights, (P,), which equal losses share."""
        weights: Tensor = super().get_population_weights(xs)
        return shared(weights, self._population.access_evals()[:, 0])

    def update_C(self, zs: Tensor, ys: Tensor, assigned_weights: Tensor, h_sig: Tensor) -> None:  # noqa: N802
        """Rank-one and rank-μ update of the covariance; see EvoTorch's method of this name for the arguments."""
        length = self.m.numel()
        weights = torch.where(
            assigned_weights > 0, assigned_weights, length * assigned_weights / zs.square().sum(1)
        )  # active CMA-ES: what bad members take away depends on how far out they are
        kept = self.c_1 * (1 - (1 - h_sig**2) * self.c_c * (2 - self.c_c))
        path = self.c_1 * torch.outer(self.p_c, self.p_c) - kept * self.C
        members = (ys.T * weights) @ ys - self.weights.sum() * self.C
        changed = self.C + path + self.c_mu * members
        self.C = (changed + changed.T) / 2

    def decompose_C(self) -> None:  # noqa: N802
        """C = A Aᵀ; where rounding has cost C its definiteness, the A of before stays in use."""
        factor, failed = torch.linalg.cholesky_ex(self.C)
        if not int(failed):
            self.A = factor

    def place(self) -> Tensor:
        """The mean."""
        return self.m

    def spread(self) -> Tensor:
        """σ √C_ii."""
        spread: Tensor = self.sigma * self.C.diagonal().clamp(min=0).sqrt()
        return spread

    def held(self) -> dict[str, Any]:
        """Mean, step size, covariance with its factor, and both evolution paths."""
        return {name: torch.as_tensor(getattr(self, name)).clone() for name in self._STATE}

    def hold(self, saved: dict[str, Any]) -> None:
        """Take over a saved state."""
        for name in self._STATE:
            setattr(self, name, saved[name].to(self.m, copy=True))

    def set_rate(self, rate: float) -> None:
        """The part of the way to the best members' mean that the center goes."""
        self.c_m = rate

    def set_spread(self, stdev: float) -> None:
        """The step size, which adapts from there."""
        self.sigma = torch.full_like(self.sigma, stdev)
