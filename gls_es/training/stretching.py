"""A recipe over another number of generations."""

from __future__ import annotations

from gls_es.basics.checks import whole_number
from gls_es.problem.recipe import Recipe

PHASES = ("natural_until", "ramp_until", "warmup_until", "average_from")
"""Fields of a recipe that keep their share of a run when it is stretched."""


def stretched(recipe: Recipe, generations: int) -> Recipe:
    """The recipe over another number of generations, its phases keeping their share.

    Raises:
        ConfigError: fewer than one generation.
    """
    generations = whole_number("generations", generations, least=1)
    share = generations / recipe.generations
    phases = {name: round(getattr(recipe, name) * share) for name in PHASES}
    drops = [round(drop * share) for drop in recipe.learning_rate_drops]
    return recipe.replaced(generations=generations, learning_rate_drops=drops, **phases)
