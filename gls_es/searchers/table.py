"""The searchers by name, built for a problem from a recipe, and what a training loop does to any of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from evotorch.algorithms import PGPE
from evotorch.algorithms.searchalgorithm import SearchAlgorithm
from torch import Tensor

from gls_es.basics.suggestions import named
from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.problem.sharing import cut
from gls_es.searchers.noise import layer_noise, layer_scale
from gls_es.searchers.pgpe import with_lean_population
from gls_es.searchers.rgs import RGS

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
}
"""What ``--searcher`` takes."""

DEFAULTS: dict[str, Recipe] = {
    "pgpe": Recipe(),
    "rgs": Recipe(popsize=8, center_learning_rate=0.005),
    "grad": Recipe(popsize=1, center_learning_rate=0.005, stdev_init=0.0),
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
    """
    make = named(SEARCHERS, name, "unknown searcher")
    start = problem.network.parameter_vector() if center is None else center
    searcher = make(problem, recipe, start.to(problem.device, torch.float32).clone())
    cut(searcher._popsize, 1, max(problem.num_actors, 1))  # now rather than when the actors have come up
    return searcher


def finish_generation(searcher: SearchAlgorithm) -> None:
    """Apply the update that EvoTorch postpones to the next step, so that the center is the generation's result.

    In local mode PGPE follows the gradient of a population only when the next one is drawn. Doing it at once draws no
    random numbers and gives the same centers; afterwards the population is no part of the state.
    """
    if isinstance(searcher, RGS) or searcher._first_iter or searcher._population is None:
        return
    population = searcher._population
    gradients = searcher._distribution.compute_gradients(
        population.access_values(keep_evals=True),
        population.access_evals()[:, 0],
        objective_sense=searcher.problem.senses[0],
        ranking_method=searcher._ranking_method,
    )
    searcher._update_distribution(gradients)
    searcher._first_iter = True


def run_generation(searcher: SearchAlgorithm) -> None:
    """One whole generation, up to the center's update."""
    searcher.step()
    finish_generation(searcher)


def set_learning_rate(searcher: SearchAlgorithm, rate: float) -> None:
    """Let the optimizer's next steps have size ``rate``."""
    for group in searcher.optimizer.param_groups:
        if "max_speed" in group:  # ClipUp's speed limit goes with its step size
            group["max_speed"] = 2.0 * rate
        group["lr"] = rate


def set_stdev(searcher: SearchAlgorithm, stdev: float) -> None:
    """Give every weight the noise ``stdev``, or where noise is relative, this multiple of its layer's scale."""
    distribution = searcher._distribution
    scale = distribution.parameters.get("scale")
    sigma = torch.full_like(distribution.sigma, stdev) if scale is None else stdev * scale
    searcher._distribution = distribution.modified_copy(sigma=sigma)


def mean_loss(searcher: SearchAlgorithm) -> float:
    """Mean fitness of the last population, wherever it was evaluated."""
    return float(searcher.status["mean_eval"])


def searcher_state(searcher: SearchAlgorithm) -> dict[str, Any]:
    """All that has to be saved of a searcher after :func:`finish_generation`, as tensors and plain values."""
    distribution = searcher._distribution
    optimizer = searcher.optimizer
    if isinstance(optimizer, torch.optim.Optimizer):
        saved = {name: torch.as_tensor(v).clone() for name, v in _slot(optimizer).items() if v is not None}
    else:
        saved = {"velocity": optimizer._velocity.clone()}
    scale = distribution.parameters.get("scale")
    return ({} if scale is None else {"noise_scale": scale.clone()}) | {
        "center": distribution.mu.clone(),
        "stdev": distribution.sigma.clone(),
        "optimizer": saved,
        "steps": int(searcher.step_count),
    }


def restore_searcher(searcher: SearchAlgorithm, saved: dict[str, Any]) -> None:
    """Put a freshly built searcher into a saved state; it goes on bit for bit."""
    distribution = searcher._distribution
    names = {"center": "mu", "stdev": "sigma", "noise_scale": "scale"}
    held = {name: saved[key].to(distribution.mu) for key, name in names.items() if key in saved}
    searcher._distribution = distribution.modified_copy(**held)
    optimizer = searcher.optimizer
    if isinstance(optimizer, torch.optim.Optimizer):
        for name, value in saved["optimizer"].items():  # torch keeps step counts, which are scalars, on the CPU
            _slot(optimizer)[name] = value.to(held["mu"], copy=True) if value.dim() else value.clone()
    else:
        optimizer._velocity = saved["optimizer"]["velocity"].to(held["mu"])
    searcher._steps_count = saved["steps"]
    searcher._first_iter = True
    searcher._population = None


def _slot(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a torch optimizer remembers of the one vector it moves."""
    slot: dict[str, Any] = optimizer.state[optimizer.param_groups[0]["params"][0]]
    return slot
