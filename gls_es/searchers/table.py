"""The searchers by name, built for a problem from a recipe; with what a training loop does to any of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from evotorch.algorithms.searchalgorithm import SearchAlgorithm
from torch import Tensor

from gls_es.basics.suggestions import named
from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem, internals
from gls_es.problem.recipe import Recipe
from gls_es.problem.sharing import cut
from gls_es.searchers.noise import layer_noise, layer_scale
from gls_es.searchers.others import OWN, cem, cmaes, ga, searcher_fields, snes, xnes
from gls_es.searchers.pgpe import PGPE, with_lean_population
from gls_es.searchers.rgs import RGS
from gls_es.searchers.state import finish_generation as finish_generation
from gls_es.searchers.state import mean_loss as mean_loss
from gls_es.searchers.state import position as position
from gls_es.searchers.state import restore_searcher as restore_searcher
from gls_es.searchers.state import run_generation as run_generation
from gls_es.searchers.state import searcher_state as searcher_state
from gls_es.searchers.state import set_learning_rate as set_learning_rate
from gls_es.searchers.state import set_stdev as set_stdev
from gls_es.searchers.state import spread as spread

_RANKING = {"raw": "raw", "normalized": "normalized", "ranks": "centered"}


def _pgpe(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    if recipe.popsize % 2:
        raise ConfigError(f"PGPE draws members in pairs: popsize must be even, not {recipe.popsize}.")
    if recipe.stdev_init == 0:
        raise ConfigError("PGPE estimates gradients from noise: stdev_init must be greater than 0.")
    learned = recipe.stdev_learning_rate > 0
    searcher = PGPE(
        problem,
        popsize=recipe.popsize,
        center_learning_rate=recipe.center_learning_rate,
        stdev_learning_rate=recipe.stdev_learning_rate,
        stdev_init=recipe.stdev_init,
        stdev_max_change=0.2 if learned else None,  # without a limit σ can become negative
        optimizer=recipe.optimizer,
        ranking_method=_RANKING[recipe.fitness],
        center_init=center,
        distributed=problem.num_actors > 1,
    )
    return _dressed(with_lean_population(searcher), recipe)


def _rgs(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    if recipe.stdev_learning_rate > 0:
        raise ConfigError("only PGPE learns σ: leave stdev_learning_rate at 0, or schedule σ by stdev_end.")
    searcher = RGS(
        problem,
        popsize=recipe.popsize,
        center_learning_rate=recipe.center_learning_rate,
        stdev_init=recipe.stdev_init,
        optimizer=recipe.optimizer,
        antithetic=recipe.antithetic,
        center_init=center,
        distributed=problem.num_actors > 1,
    )
    return _dressed(searcher, recipe)


def _grad(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    return _rgs(problem, recipe.replaced(popsize=1, stdev_init=0.0), center)


def _dressed(searcher: SearchAlgorithm, recipe: Recipe) -> SearchAlgorithm:
    """The searcher with what the recipe says of noise and gradients."""
    distribution = searcher._distribution
    extras: dict[str, Any] = {}
    if recipe.stdev_mode == "relative":
        extras["scale"] = layer_scale(searcher.problem, distribution.mu)
        extras["sigma"] = recipe.stdev_init * extras["scale"]
    if recipe.gradient_clip > 0:
        extras["gradient_clip"] = recipe.gradient_clip
    searcher._distribution = distribution.modified_copy(**extras)
    searcher.add_status_getters({"noise": partial(layer_noise, searcher)})
    return searcher


SEARCHERS: dict[str, Callable[[CertifiedTrainingProblem, Recipe, Tensor], SearchAlgorithm]] = {
    "pgpe": _pgpe,
    "rgs": _rgs,
    "grad": _grad,
    "snes": snes,
    "xnes": xnes,
    "cem": cem,
    "cmaes": cmaes,
    "ga": ga,
}
"""What ``--searcher`` takes."""

DEFAULTS: dict[str, Recipe] = {
    "pgpe": Recipe(),
    "rgs": Recipe(popsize=8, center_learning_rate=0.005),
    "grad": Recipe(popsize=1, center_learning_rate=0.005, stdev_init=0.0),
    **{name: Recipe().replaced(**searcher_fields(name)) for name in OWN},
}
"""Recipes for problems that bring none of their own."""


def build(
    name: str, problem: CertifiedTrainingProblem, recipe: Recipe, *, center: Tensor | None = None
) -> SearchAlgorithm:
    """The searcher ``name`` for a problem.

    Args:
        name: a key of :data:`SEARCHERS`.
        problem: what to search on.
        recipe: hyper-parameters.
        center: initial weights (L,); None: the network's own.

    Raises:
        ConfigError: unknown name, or a recipe the searcher cannot follow.
        TrainingError: the installed EvoTorch lacks what gls-es uses of it.
    """
    internals.check()
    make = named(SEARCHERS, name, "unknown searcher")
    start = problem.network.parameter_vector() if center is None else center
    searcher = make(problem, recipe, start.to(problem.device, torch.float32).clone())
    cut(searcher._popsize, 1, max(problem.num_actors, 1))  # now rather than when the actors have come up
    return searcher
