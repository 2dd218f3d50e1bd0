"""EvoTorch's PGPE with another distribution: less memory, and the gradient of the smoothed loss for any σ."""

from __future__ import annotations

from typing import TypeVar

import torch
from evotorch import algorithms
from evotorch.distributions import SymmetricSeparableGaussian
from evotorch.tools.ranking import rank
from torch import Tensor

from gls_es.searchers.asktell import AskTell
from gls_es.searchers.gaussian import SeededGaussian

_COLUMNS = 1 << 14
"""Weights whose noise is looked at in one piece when a gradient is estimated."""


class LeanSymmetricGaussian(SeededGaussian, SymmetricSeparableGaussian):  # type: ignore[misc]
    """EvoTorch's distribution of PGPE with a third of its memory, and with the gradient of L_σ itself.

    EvoTorch draws into a strided view and makes three temporary populations when it estimates. Here a pair is drawn
    from one contiguous vector, and an estimate is two matrix products for a block of columns at a time; a run's peak
    is about 1.2 populations instead of 2.6.

    With D pairs of utilities u±, a = (u+ - u-) / 2, b = (u+ + u-) / 2 and noise n (Sehnke et al. 2010):

        mu:    (1/D) Σ a n / σ²               = -∇L_σ for raw losses; EvoTorch leaves out the division
        sigma: (1/D) Σ b (n² - σ²) / σ        = -σ² ∂L_σ/∂σ, the gradient of log σ times σ, as in EvoTorch

    so that a center follows the same direction whatever σ is, weight by weight. Where σ = 0 both are 0.
    """

    OPTIONAL_PARAMETERS = SeededGaussian.OPTIONAL_PARAMETERS
    unit = 2
    first_order = False

    def compute_gradients(
        self, samples: Tensor, fitnesses: Tensor, *, objective_sense: str, ranking_method: str | None = None
    ) -> dict[str, Tensor]:
        """Both gradients from a whole population.

        Args:
            samples: (2 D, L), in pairs.
            fitnesses: (2 D,).
            objective_sense: "min" or "max".
            ranking_method: EvoTorch's name of the fitness shaping.
        """
        utilities = self.utilities(fitnesses, objective_sense=objective_sense, ranking_method=ranking_method)
        return self.gradients(self.sums(samples, utilities), len(samples))

    def utilities(self, fitnesses: Tensor, *, objective_sense: str, ranking_method: str | None) -> Tensor:
        """Shaped fitnesses with mean 0, (2 D,); all 0 if the fitnesses are equal, which gives no direction."""
        fitnesses = torch.as_tensor(fitnesses, dtype=self.dtype)
        if bool((fitnesses == fitnesses[0]).all()):
            return torch.zeros_like(fitnesses)
        shaped: Tensor = rank(fitnesses, ranking_method or "raw", higher_is_better=objective_sense == "max")
        return shaped - shaped.mean()

    def sums(self, samples: Tensor, utilities: Tensor) -> dict[str, Tensor]:
        """Σ a n and, for a learned σ, Σ b (n² - σ²) over the pairs of a share; sums of shares add up."""
        utilities = utilities.to(samples)
        odd, even = (utilities[0::2] - utilities[1::2]) / 2, (utilities[0::2] + utilities[1::2]) / 2
        found = {"mu": torch.empty_like(self.mu)}
        if not self.parameters.get("fixed_sigma"):
            found["sigma"] = torch.empty_like(self.sigma)
        for start in range(0, len(self.mu), _COLUMNS):
            block = slice(start, start + _COLUMNS)
            noise = samples[0::2, block] - self.mu[block]
            torch.mv(noise.T, odd, out=found["mu"][block])
            if "sigma" in found:
                found["sigma"][block] = even @ noise.square_() - even.sum() * self.sigma[block].square()
        return found

    def gradients(self, sums: dict[str, Tensor], popsize: int) -> dict[str, Tensor]:
        """The gradients to ascend from the sums over a whole population (overwritten)."""
        drawn = self.sigma > 0
        pairs = popsize // 2
        found = {"mu": sums["mu"].div_(pairs).div_(self.sigma).div_(self.sigma)}  # σ² itself could underflow
        if "sigma" in sums:
            found["sigma"] = sums["sigma"].div_(pairs).div_(self.sigma)
        return {name: gradient.masked_fill_(~drawn, 0.0) for name, gradient in found.items()}


class PGPE(AskTell, algorithms.PGPE):  # type: ignore[misc]
    """EvoTorch's PGPE, which can also be asked for members and told their losses."""


_AnyPGPE = TypeVar("_AnyPGPE", bound=algorithms.PGPE)


def with_lean_population(searcher: _AnyPGPE) -> _AnyPGPE:
    """Put :class:`LeanSymmetricGaussian` into a PGPE that has not begun; the search remains EvoTorch's own.

    Args:
        searcher: built with the default ``symmetric=True``.

    Returns:
        The same searcher.
    """
    given = searcher._distribution
    parameters = {"mu": given.mu, "sigma": given.sigma, "fixed_sigma": searcher._stdev_learning_rate == 0}
    searcher._distribution = LeanSymmetricGaussian(parameters, dtype=given.dtype, device=given.device)
    return searcher
