"""EvoTorch's other searchers from a recipe: what of it each can follow, and how many weights each takes."""

from __future__ import annotations

from functools import partial
from typing import Any

from evotorch.algorithms.searchalgorithm import SearchAlgorithm
from torch import Tensor

from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.searchers.covariance import CMAES
from gls_es.searchers.genetic import GA
from gls_es.searchers.natural import CEM, SNES, XNES
from gls_es.searchers.noise import layer_noise, layer_scale

MOST_WEIGHTS = 3000
"""For XNES and CMA-ES, which keep matrices of L × L numbers: 36 MB each then, in memory and in every checkpoint."""

PARENTS = 0.25
"""The part of the population that CEM learns from."""

OWN: dict[str, dict[str, Any]] = {
    "snes": {"popsize": 32, "stdev_init": 0.1, "stdev_learning_rate": 1.0},
    "xnes": {"popsize": 32, "stdev_init": 0.1, "stdev_learning_rate": 1.0},
    "cem": {"popsize": 64, "stdev_init": 0.1, "stdev_learning_rate": 0.1},
    "cmaes": {"popsize": 32, "stdev_init": 0.1, "stdev_learning_rate": 1.0},
    "ga": {"popsize": 64, "stdev_init": 0.01, "stdev_learning_rate": 0.0},
}
"""Fields of a recipe that belong to the searcher; the others, phases and minibatches, are the problem's."""

STEPS_ONLY = ("cmaes", "ga")
"""Searchers that nobody can ask for members, see :class:`gls_es.searchers.holding.Holding`."""
_MOST_SHOWN = 4


def searcher_fields(name: str) -> dict[str, Any]:
    """The fields of a recipe that belong to one of EvoTorch's other searchers, with tested values."""
    plain = {"fitness": "ranks", "stdev_mode": "absolute", "stdev_end": 1.0, "gradient_clip": 0.0}
    return plain | {"optimizer": "sgd", "center_learning_rate": 1.0, **OWN[name]}


def snes(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    """SNES; any optimizer follows its direction."""
    _ranked("snes", recipe)
    return _reporting(
        SNES(
            problem,
            popsize=recipe.popsize,
            center_learning_rate=recipe.center_learning_rate,
            stdev_learning_rate=recipe.stdev_learning_rate,
            stdev_init=_noise(problem, recipe, center),
            optimizer=recipe.optimizer,
            center_init=center,
        )
    )


def xnes(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    """XNES, by plain steps."""
    _ranked("xnes", recipe)
    _plain("xnes", recipe)
    _few("xnes", center)
    return _reporting(
        XNES(
            problem,
            popsize=recipe.popsize,
            center_learning_rate=recipe.center_learning_rate,
            stdev_learning_rate=recipe.stdev_learning_rate,
            stdev_init=_noise(problem, recipe, center),
            center_init=center,
        )
    )


def cem(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    """CEM, whose step sizes are the parts of the way to the best members' mean and spread that it goes."""
    _ranked("cem", recipe)
    _plain("cem", recipe)
    for field in ("center_learning_rate", "stdev_learning_rate"):
        if getattr(recipe, field) > 1.0:
            raise ConfigError(f"cem goes a part of the way: {field} must be at most 1, not {getattr(recipe, field)}.")
    if int(PARENTS * recipe.popsize) < 2:
        raise ConfigError(f"cem learns σ from the best quarter: popsize must be at least 8, not {recipe.popsize}.")
    searcher = CEM(
        problem,
        popsize=recipe.popsize,
        parenthood_ratio=PARENTS,
        stdev_init=_noise(problem, recipe, center),
        stdev_max_change=0.2,
        center_init=center,
    )
    searcher._center_learning_rate = recipe.center_learning_rate
    searcher._stdev_learning_rate = recipe.stdev_learning_rate
    return _reporting(searcher)


def cmaes(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    """CMA-ES with its own rates."""
    _ranked("cmaes", recipe)
    _plain("cmaes", recipe)
    _few("cmaes", center)
    _absolute("cmaes", recipe)
    if recipe.stdev_learning_rate != 1.0:
        raise ConfigError("cmaes adapts σ at a rate of its own: leave stdev_learning_rate at 1.")
    if recipe.center_learning_rate > 1.0:
        raise ConfigError(f"cmaes: center_learning_rate must be at most 1, not {recipe.center_learning_rate}.")
    if recipe.popsize < 4:
        raise ConfigError(f"cmaes: popsize must be at least 4, not {recipe.popsize}.")
    return _reporting(CMAES(problem, popsize=recipe.popsize, stdev_init=recipe.stdev_init, center_init=center))


def ga(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> SearchAlgorithm:
    """The genetic algorithm, whose σ can be scheduled."""
    _ranked("ga", recipe, learns=False)
    _plain("ga", recipe)
    _absolute("ga", recipe)
    if recipe.stdev_learning_rate != 0.0:
        raise ConfigError("ga does not learn σ: leave stdev_learning_rate at 0, or schedule σ by stdev_end.")
    if recipe.popsize % 2:
        raise ConfigError(f"ga halves its members: popsize must be even, not {recipe.popsize}.")
    return _reporting(GA(problem, popsize=recipe.popsize, stdev_init=recipe.stdev_init, center_init=center))


def _ranked(name: str, recipe: Recipe, *, learns: bool = True) -> None:
    """What holds for all of them."""
    if recipe.fitness != "ranks":
        only = " It has step() only, no ask()." if name in STEPS_ONLY else ""
        raise ConfigError(
            f'{name} ranks its members: its recipe needs fitness="ranks", not "{recipe.fitness}"; '
            f"{_usual(name, recipe)} has it.{only}"
        )
    if recipe.gradient_clip > 0:
        raise ConfigError(f"{name} has no gradient to clip: leave gradient_clip at 0.")
    if recipe.stdev_init == 0:
        raise ConfigError(f"{name} learns from noise: stdev_init must be greater than 0.")
    if recipe.popsize < 2:
        raise ConfigError(f"{name} compares members: popsize must be at least 2, not {recipe.popsize}.")
    if learns and recipe.stdev_end != 1.0 and recipe.stdev_learning_rate > 0:
        raise ConfigError(f"{name} learns σ: leave stdev_end at 1.")


def _usual(name: str, recipe: Recipe) -> str:
    """The searcher's own recipe with the fields that were chosen, as Python."""
    chosen = [f"{k}={v!r}" for k, v in recipe.as_dict().items() if k != "fitness" and v != Recipe().as_dict()[k]]
    changes = "..." if len(chosen) > _MOST_SHOWN else ", ".join(chosen)
    return f'gls_es.searchers.DEFAULTS["{name}"]' + (f".replaced({changes})" if chosen else "")


def _plain(name: str, recipe: Recipe) -> None:
    if recipe.optimizer != "sgd":
        raise ConfigError(f'{name} takes plain steps: leave optimizer at "sgd", not "{recipe.optimizer}".')


def _absolute(name: str, recipe: Recipe) -> None:
    if recipe.stdev_mode != "absolute":
        raise ConfigError(f'{name} begins with one σ for all weights: leave stdev_mode at "absolute".')


def _few(name: str, center: Tensor) -> None:
    if len(center) > MOST_WEIGHTS:
        raise ConfigError(
            f"{name} keeps L x L numbers, for at most {MOST_WEIGHTS} weights, and this network has {len(center)}; "
            "use snes, or pgpe or rgs."
        )


def _noise(problem: CertifiedTrainingProblem, recipe: Recipe, center: Tensor) -> Any:
    return recipe.stdev_init * layer_scale(problem, center) if recipe.stdev_mode == "relative" else recipe.stdev_init


def _reporting(searcher: SearchAlgorithm) -> SearchAlgorithm:
    searcher.add_status_getters({"noise": partial(layer_noise, searcher)})
    return searcher
