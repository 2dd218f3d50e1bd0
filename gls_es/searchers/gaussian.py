"""Search distributions N(mu, diag σ²) whose noise is a function of a seed and of the number of its pair alone.

Whoever draws pair k, the main process or an actor, draws the same numbers, so that a generation is the same population
however it is shared out. Steps are torch's own optimizer steps on the center itself.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from evotorch.distributions import SeparableGaussian, SymmetricSeparableGaussian
from evotorch.optimizers import ClipUp, TorchOptimizer
from evotorch.tools.ranking import rank
from torch import Tensor

from gls_es.seeding import derived_seed, drawn_seed
from gls_es.threads import each

_COLUMNS = 1 << 14
"""Weights whose noise is looked at in one piece when a gradient is estimated."""


class SeededGaussian(SeparableGaussian):  # type: ignore[misc]
    """What the distributions of all our searchers share.

    Parameters besides EvoTorch's ``mu`` and ``sigma``:
        scale: (L,), what σ is a multiple of, for noise relative to layers.
        gradient_clip: largest norm of a gradient that is followed.
        fixed_sigma: True: σ has no gradient.
    """

    OPTIONAL_PARAMETERS = SeparableGaussian.OPTIONAL_PARAMETERS | {"scale", "gradient_clip", "fixed_sigma"}

    unit: ClassVar[int] = 1
    """Neighbouring rows that share one noise vector, with alternating signs."""
    first_order: ClassVar[bool] = True
    """Whether the searcher follows mean gradients of the samples; if not, it needs their losses only."""

    def without_extras(self) -> Self:
        """The distribution with all that drawing and estimating need, and no more: what an actor is sent."""
        kept = {name: value for name, value in self.parameters.items() if name != "scale"}
        return type(self)(kept, dtype=self.dtype, device=self.device)

    def _fill(self, out: Tensor, *, generator: Any = None) -> None:
        self.fill(out, seed=drawn_seed(getattr(generator, "generator", generator)), first=0)

    def fill(self, out: Tensor, *, seed: int, first: int) -> None:
        """Draw a share of a population.

        Args:
            out: (n, L), overwritten; a last unit may be incomplete.
            seed: of the population.
            first: number of the share's first unit in the population.
        """

        def draw(number: int) -> None:
            generator = torch.Generator(out.device).manual_seed(derived_seed(seed, "noise", first + number))
            noise = torch.randn(out.shape[1], dtype=out.dtype, device=out.device, generator=generator)
            noise.mul_(self.sigma)
            rows = out[number * self.unit : (number + 1) * self.unit]
            torch.add(self.mu, noise, out=rows[0])
            if len(rows) == 2:
                torch.sub(self.mu, noise, out=rows[1])

        units = range(-(-len(out) // self.unit))
        if out.device.type == "cpu":
            each(draw, units)
        else:
            for number in units:
                draw(number)

    def update_parameters(
        self, gradients: dict[str, Tensor], *, learning_rates: Any = None, optimizers: Any = None
    ) -> Self:
        """Move mu along ``gradients["mu"]`` and, where it is learned, σ along ``gradients["sigma"]``.

        A gradient that is not finite moves nothing.
        """
        changes = {}
        uphill = _clipped(gradients["mu"], self.parameters.get("gradient_clip"))
        if bool(torch.isfinite(uphill).all()):
            changes["mu"] = _moved(self.mu, uphill, (optimizers or {}).get("mu"), (learning_rates or {}).get("mu"))
        stdev = gradients.get("sigma")
        if stdev is not None and bool(torch.isfinite(stdev).all()):
            changes["sigma"] = torch.add(self.sigma, stdev, alpha=learning_rates["sigma"])
        updated: Self = self.modified_copy(**changes)
        return updated


class SmoothedGradientGaussian(SeededGaussian):
    """The distribution of RGS, of which only mu is learned, by mean gradients of the samples."""


class AntitheticGradientGaussian(SmoothedGradientGaussian):
    """The same, sampled in pairs mu ± noise (with an odd number one sample has no partner)."""

    unit = 2


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


def _clipped(gradient: Tensor, limit: float | None) -> Tensor:
    if limit is None:
        return gradient
    norm = _norm(gradient)
    return gradient * (limit / norm) if norm > limit else gradient


def _norm(gradient: Tensor) -> float:
    return float(torch.linalg.vector_norm(gradient, dtype=torch.float64))  # float32 squares can overflow


def _moved(center: Tensor, uphill: Tensor, optimizer: Any, rate: float | None) -> Tensor:
    """The center after one step; ``optimizer`` is one of EvoTorch's wrappers, or None for plain steps of size rate."""
    if isinstance(optimizer, TorchOptimizer):
        # EvoTorch's own ascent() steps from zero and adds the difference, which rounds otherwise than torch does
        data: Tensor = optimizer._data
        data.copy_(center)
        data.grad = uphill.neg()
        optimizer.contained_optimizer.step()
        data.grad = None
        return data.clone()
    if isinstance(optimizer, ClipUp) and float(torch.norm(uphill)) == 0.0:
        return center  # ClipUp divides by this norm, which tiny gradients let underflow
    if optimizer is None:
        return center + uphill * (1.0 if rate is None else rate)
    step: Tensor = optimizer.ascent(uphill)
    return center + step
