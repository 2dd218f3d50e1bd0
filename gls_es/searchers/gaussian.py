"""Search distributions N(mu, diag σ²) whose noise is a function of a seed and of the number of its pair alone.

Whoever draws pair k, the main process or an actor, draws the same numbers, so that a generation is the same population
however it is shared out. Steps are torch's own optimizer steps on the center itself.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from evotorch.distributions import SeparableGaussian
from evotorch.optimizers import ClipUp, TorchOptimizer
from torch import Tensor

from gls_es.basics.seeding import derived_seed, drawn_seed
from gls_es.basics.threads import each


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
