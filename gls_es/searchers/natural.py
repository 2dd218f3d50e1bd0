"""EvoTorch's SNES, XNES and CEM with :class:`AskTell`; XNES in time P L² a generation instead of P L² memory and L³."""

from __future__ import annotations

from typing import Any

import torch
from evotorch import algorithms
from evotorch.distributions import ExpGaussian, ExpSeparableGaussian, SeparableGaussian
from torch import Tensor

from gls_es.searchers.asktell import AskTell
from gls_es.searchers.ties import SharedRanks


class SharedExpSeparableGaussian(SharedRanks, ExpSeparableGaussian):  # type: ignore[misc]
    """EvoTorch's distribution of SNES with shared ranks."""


class SNES(AskTell, algorithms.SNES):  # type: ignore[misc]
    """EvoTorch's SNES: natural gradient of center and of one σ a weight, by ranks (Schaul et al. 2011)."""

    DISTRIBUTION_TYPE = SharedExpSeparableGaussian


class EliteGaussian(SeparableGaussian):  # type: ignore[misc]
    """EvoTorch's distribution of CEM, which does not learn from the worst members, however many there are of them."""

    def _compute_gradients(
        self,
        samples: Tensor,
        weights: Tensor,
        ranking_used: str | None,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        order = weights.argsort(descending=True)
        count = min(int(len(weights) * self.parameters["parenthood_ratio"]), int((weights > weights.min()).sum()))
        if count < 2:  # there is no spread to be learned from one member
            return {"mu": torch.zeros_like(self.mu), "sigma": torch.zeros_like(self.sigma)}
        elites = samples[order[:count]]
        return {"mu": elites.mean(0) - self.mu, "sigma": elites.std(0) - self.sigma}


class CEM(AskTell, algorithms.CEM):  # type: ignore[misc]
    """EvoTorch's cross-entropy method: towards mean and spread of the best members (Rubinstein 1999)."""

    DISTRIBUTION_TYPE = EliteGaussian


class LowRankExpGaussian(SharedRanks, ExpGaussian):  # type: ignore[misc]
    """EvoTorch's distribution of XNES (Glasmachers et al. 2010), whose step keeps to the span of the noise.

    With utilities w of mean 0 and local noise Z (P, L) the step of the covariance is M = Zᵀ diag(w) Z, of rank at most
    P. With Zᵀ = Q R (thin) and S = R diag(w) Rᵀ,

        exp(M / 2) = I + Q (exp(S / 2) - I) Qᵀ

    so neither P matrices of L × L numbers are made, as EvoTorch does, nor is an L × L matrix exponentiated.
    """

    def _compute_gradients(self, samples: Tensor, weights: Tensor, ranking_used: str | None) -> dict[str, Tensor]:
        noise = self.to_local_coordinates(samples)
        if ranking_used not in ("centered", "normalized"):
            weights = weights - weights.mean()
        return {"d": weights @ noise, "noise": noise, "weights": weights}

    def update_parameters(
        self,
        gradients: dict[str, Tensor],
        *,
        learning_rates: Any = None,
        optimizers: Any = None,  # noqa: ARG002
    ) -> LowRankExpGaussian:
        """One step; there is no optimizer, since EvoTorch's XNES cannot have one.

        Args:
            gradients: of :meth:`compute_gradients`.
            learning_rates: of "mu" and "sigma".
            optimizers: none.
        """
        basis, triangle = torch.linalg.qr(gradients["noise"].T)
        inner = (triangle * gradients["weights"]) @ triangle.T * (0.5 * learning_rates["sigma"])
        inner = (inner + inner.T) / 2
        unit = torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
        wider, narrower = torch.matrix_exp(inner) - unit, torch.matrix_exp(-inner) - unit
        return self.modified_copy(  # type: ignore[no-any-return]
            mu=self.mu + self.A @ (gradients["d"] * learning_rates["mu"]),
            sigma=self.A + (self.A @ basis) @ wider @ basis.T,
            sigma_inv=self.A_inv + basis @ (narrower @ (basis.T @ self.A_inv)),
        )


class XNES(AskTell, algorithms.XNES):  # type: ignore[misc]
    """EvoTorch's XNES: natural gradient of center and of the whole covariance, by ranks; for few weights."""

    DISTRIBUTION_TYPE = LowRankExpGaussian
