"""All that changes during training, as pure functions of the generation: resuming needs nothing but its number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gls_es.fitness import Stage
from gls_es.recipe import Recipe


def linear_ramp(step: int, start: int, stop: int) -> float:
    """0 until ``start``, 1 from ``stop`` on, a straight line between."""
    if step < start:
        return 0.0
    return 1.0 if step >= stop else (step - start) / (stop - start)


def cosine_decay(step: int, total: int, end: float) -> float:
    """From 1 at step 0 to ``end`` at the last step, along half a cosine."""
    progress = min(1.0, step / max(1, total - 1))
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def geometric_decay(step: int, total: int, end: float) -> float:
    """From 1 at step 0 to ``end`` at the last step, by the same factor each step."""
    return float(end ** min(1.0, step / max(1, total - 1)))


@dataclass(frozen=True)
class Schedule:
    """A recipe as functions of the generation.

    Attributes:
        recipe: the hyper-parameters.
        eps: the radius at full strength (the recipe's factor not yet applied).
        method: the run's relaxation.
    """

    recipe: Recipe
    eps: float
    method: str

    def stage(self, generation: int) -> Stage:
        """What the fitness is."""
        recipe = self.recipe
        ramp = linear_ramp(generation, recipe.natural_until, recipe.ramp_until)
        eps = min(1.0, self.eps * recipe.eps_factor) * ramp
        weight = 1.0 if generation < recipe.natural_until else 1.0 - ramp * (1.0 - recipe.natural_weight)
        early = recipe.warmup_method and generation < recipe.warmup_until
        return Stage(eps, weight, recipe.warmup_method if early else self.method)

    def learning_rate(self, generation: int) -> float:
        """The optimizer's step size."""
        decay = cosine_decay(generation, self.recipe.generations, self.recipe.learning_rate_end)
        return self.recipe.center_learning_rate * decay

    def stdev(self, generation: int) -> float:
        """σ, where it is not learned."""
        return self.recipe.stdev_init * geometric_decay(generation, self.recipe.generations, self.recipe.stdev_end)
