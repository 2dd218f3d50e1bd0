"""About how long a run will take, said within seconds for any problem: what a plan shows before anything is begun.

Generations are timed where counted operations say that this takes seconds, otherwise a part of one. Where even that
may take minutes, the count is all there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gls_es.benchmark.estimate import cpu_speed, layers, mean_seconds
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.training import timing
from gls_es.training.runs import resolved
from gls_es.training.schedules import Schedule
from gls_es.training.settings import ProblemLike, plan_table

PATIENCE = 10.0
"""Seconds that a look may take, about."""
REPEATING = 1.0
"""Seconds for which fast generations are repeated."""
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
    """Seconds a generation, and how they are known.

    A small part costs more than its share, as every part has the same overhead: where time is left, a larger one is
    timed, and the whole as soon as it promises to take seconds.
    """
    images = min(problem.batch_size, len(problem.data.train))
    parts = _parts(searcher, recipe, images)
    counted = _counted(problem, searcher, recipe, images)
    looks = 2 * len(timing.phases(recipe))
    if 0 < counted * CARE * looks <= PATIENCE:
        return _timed(problem, searcher, recipe, images), "measured"
    if counted * CARE * looks / parts[0].share > PATIENCE:
        return counted, "counted"
    end = timing.finished_seconds(problem) + PATIENCE
    while True:
        part = parts[0]
        guessed = part.share * _timed(problem, searcher, part.recipe, part.images)
        left = end - timing.finished_seconds(problem)
        if guessed * looks <= PATIENCE:
            return _timed(problem, searcher, recipe, images), "measured"
        if 2 * guessed <= PATIENCE:
            last = recipe.replaced(natural_until=0, ramp_until=0, warmup_until=0)
            return _timed(problem, searcher, last, images), "one generation"
        parts = [more for more in parts[1:] if guessed / more.share * looks <= left][-1:]
        if not parts:
            return guessed, "on a part"


@dataclass(frozen=True)
class _Part:
    """Some members and images of a generation.

    Attributes:
        recipe: with so many members, and the method itself on its share of the images.
        images: how many.
        share: parts in the whole.
    """

    recipe: Recipe
    images: int
    share: float


def _parts(searcher: str, recipe: Recipe, images: int) -> list[_Part]:
    """Parts of a generation, from a small one to less than the whole, or to the whole where that is small.

    No part has so few images that the method itself would be used on more of them than its share.
    """
    members, some = recipe.popsize, min(images, FEW_IMAGES)
    if searcher in _SHARED:
        members = min(members, FEW_MEMBERS)
    if recipe.stand_in:
        some = max(some, math.ceil(images / recipe.exact_images))
    found: list[_Part] = []
    while not found or members < recipe.popsize or some < images:
        changes: dict[str, int] = {"popsize": members}
        if members < recipe.popsize:
            changes["candidates"] = 1  # one member's losses on them, of many: more than their share
        if some < images and recipe.stand_in:
            changes["exact_images"] = max(1, round(recipe.exact_images * some / images))
        found.append(_Part(recipe.replaced(**changes), some, recipe.popsize / members * images / some))
        members, some = min(recipe.popsize, 2 * members), min(images, 2 * some)
    return found


def _counted(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe, images: int) -> float:
    """Seconds a generation by counted operations; 0 where nothing is counted."""
    works = layers(problem.network.module(), problem.network.input_shape)
    if not works:
        return 0.0
    return mean_seconds(works, recipe, searcher=searcher, method=problem.method, images=images, speed=cpu_speed())


def _timed(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe, images: int) -> float:
    """Seconds a generation of so many images: several of each phase where they are fast, as one may be held up."""
    size, problem.batch_size = problem.batch_size, min(problem.batch_size, images)
    try:
        return timing.generation_seconds(
            problem, searcher, recipe, clock=lambda: timing.finished_seconds(problem), allowance=REPEATING
        )
    finally:
        problem.batch_size = size
