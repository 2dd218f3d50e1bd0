"""About how long a run will take, said within seconds for any problem: what a plan shows before anything is begun.

Generations are timed where counted operations say that this takes seconds, otherwise a part of one. Where even that
may take minutes, the count is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gls_es.benchmark.estimate import cpu_speed, generation_seconds, layers
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.training import timing
from gls_es.training.runs import resolved
from gls_es.training.schedules import Schedule
from gls_es.training.settings import ProblemLike, plan_table

PATIENCE = 10.0
"""Seconds that a look may take, about."""
CARE = 3.0
"""So many times longer than counted a generation may take."""
FEW_IMAGES = 2
FEW_MEMBERS = 4
_SHARED = ("pgpe", "rgs")  # searchers that are content with any even number of members


@dataclass(frozen=True)
class Glimpse:
    """About how long a run takes, on this machine as busy as it is.

    Attributes:
        each: seconds a generation, with the initial weights; trained ones often take less.
        seconds: of all generations.
        how: "measured", mean over the phases; or "one generation" at the full radius, which takes longest; or "on a
            part", some members and images, as if all others took as long; or "counted", from operations, right to a
            factor of about three.
    """

    each: float
    seconds: float
    how: str


def timed_plan(problem: ProblemLike, searcher: str, **arguments: Any) -> dict[str, Any]:
    """What ``gls_es.training.plan`` says, and about how long it would take.

    Args:
        problem: as for ``gls_es.train``.
        searcher: a key of ``searchers.table.SEARCHERS``.
        arguments: the others of ``gls_es.training.plan``.

    Returns:
        The plan; with "seconds_each", "seconds" and "timed", how they are known, unless a budget gives the time or
        actors would share the work; and with a "hint" where something else would be much faster.
    """
    made, settings = resolved(problem, searcher, **arguments)
    table = plan_table(made, settings)
    if settings.planned is not None or made.num_actors > 1:
        return table
    found = glimpse(made, searcher, settings.recipe)
    last = Schedule(settings.recipe, made.eps, made.method).stage(settings.recipe.generations)
    hint = timing.advice(last, found.each)
    known = {"seconds_each": found.each, "seconds": found.seconds, "timed": found.how}
    return table | known | ({"hint": hint} if hint else {})


def glimpse(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe) -> Glimpse:
    """Time a few generations, or a part of one, or count.

    Args:
        problem: what would be trained, in this process alone; its weights are not changed.
        searcher: a key of ``searchers.table.SEARCHERS``.
        recipe: the hyper-parameters.
    """
    each, how = _each(problem, searcher, recipe)
    return Glimpse(each, each * recipe.generations, how)


def _each(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe) -> tuple[float, str]:
    """Seconds a generation, and how they are known."""
    images = min(problem.batch_size, len(problem.data.train))
    members = min(recipe.popsize, FEW_MEMBERS) if searcher in _SHARED else recipe.popsize
    share = recipe.popsize / members * images / min(images, FEW_IMAGES)
    counted = _counted(problem, searcher, recipe, images)
    looks = 2 * len(timing.phases(recipe))
    if 0 < counted * CARE * looks <= PATIENCE:
        return _timed(problem, searcher, recipe, images), "measured"
    if counted * CARE * looks / share > PATIENCE:
        return counted, "counted"
    guessed = share * _timed(problem, searcher, recipe.replaced(popsize=members), FEW_IMAGES)
    if guessed * looks <= PATIENCE:
        return _timed(problem, searcher, recipe, images), "measured"
    if 2 * guessed <= PATIENCE:
        last = recipe.replaced(natural_until=0, ramp_until=0, warmup_until=0)
        return _timed(problem, searcher, last, images), "one generation"
    return guessed, "on a part"


def _counted(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe, images: int) -> float:
    """Seconds a generation by counted operations; 0 where nothing is counted."""
    works = layers(problem.network.module(), problem.network.input_shape)
    if not works:
        return 0.0
    return generation_seconds(
        works,
        method=recipe.main_method or problem.method,
        members=recipe.popsize,
        images=images,
        gradient=searcher in ("rgs", "grad"),
        speed=cpu_speed(),
    )


def _timed(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe, images: int) -> float:
    size, problem.batch_size = problem.batch_size, min(problem.batch_size, images)
    try:
        return timing.generation_seconds(
            problem, searcher, recipe, clock=lambda: timing.finished_seconds(problem), repeats=1
        )
    finally:
        problem.batch_size = size
