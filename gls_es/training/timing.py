"""How many generations fit into a given time: measured on this machine."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gls_es.basics.threads import whole_operations
from gls_es.bounds import method_named
from gls_es.errors import ConfigError
from gls_es.fitness import Stage
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build, position, run_generation
from gls_es.training.evaluation import center_row
from gls_es.training.schedules import Schedule
from gls_es.training.stretching import stretched

REPEATS = 5
"""Generations timed in each phase of a run."""
MEASURING = 1 / 3
"""The part of a budget that measuring may take, about: two generations are needed, and all else is left out before."""
BRIEF = 300
"""Generations of a training that stands for a whole one: enough for most neurons to become stable."""
BRIEF_SHARE = 0.05
"""The part of a budget that such a training may take."""
SHORTEST_BRIEF = 30
"""Generations below which it says nothing."""
FEWEST = 10
"""Generations that a budget must leave."""
FEW = 10
"""A budget that leaves less than one in so many of a recipe's generations is worth a hint."""
SLOW = 2.0
"""Seconds a generation from which on a cheaper relaxation is pointed out."""


def phases(recipe: Recipe) -> list[tuple[int, int]]:
    """Where a run's cost per generation changes: first and last generation (exclusive) of every phase that is there.

    Natural training, the ramp under another relaxation and under the run's own, and the full radius cost differently.
    """
    whole = recipe.generations
    inner = {min(end, whole) for end in (recipe.natural_until, recipe.warmup_until, recipe.ramp_until)}
    ends = sorted({0, whole} | inner)
    return list(itertools.pairwise(ends))


def brief_weights(
    problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe, *, generations: int = BRIEF
) -> Tensor:
    """Weights that cost about what trained ones do, (L,): the recipe, phases and all, in few generations.

    Bounds that go back only where a neuron is unstable cost several times as much on random weights.

    Args:
        problem: what is trained; its weights are not changed.
        searcher: a key of ``searchers.table.SEARCHERS``.
        recipe: the hyper-parameters; a shorter run is not made longer.
        generations: how many.
    """
    short = stretched(recipe, min(generations, recipe.generations))
    problem.stages = Schedule(short, problem.eps, problem.method).stage
    search = build(searcher, problem, short)
    with whole_operations():
        for generation in range(short.generations):
            problem.begin(generation)
            problem.choose_images(position(search))
            run_generation(search)
    return position(search)


def generation_seconds(
    problem: CertifiedTrainingProblem,
    searcher: str,
    recipe: Recipe,
    *,
    center: Tensor | None = None,
    clock: Callable[[], float] | None = None,
    repeats: int = REPEATS,
    allowance: float = math.inf,
    left: float = math.inf,
) -> float:
    """Mean time of a generation over the whole of a recipe.

    Args:
        problem: what would be trained; its weights are not changed.
        searcher: a key of ``searchers.table.SEARCHERS``.
        recipe: the hyper-parameters; a run stretched to more generations has the same mean.
        center: the weights that a run begins with, (L,); None: the problem's own.
        clock: what tells seconds; None: processor time of this process divided by its threads, so that other programs
            on the machine do not count.
        repeats: generations timed in each phase, one at least.
        allowance: seconds after which each phase's repeats end, a share of them for each phase.
        left: seconds that there are for this and for the run. Past a third of them, phases that were not measured yet
            are taken to be as slow as the slowest of the others.
    """
    problem.stages = Schedule(recipe, problem.eps, problem.method).stage
    search = build(searcher, problem, recipe, center=center)
    tell = clock or _processor_seconds
    parts = phases(recipe)
    total = slowest = 0.0

    def run(generation: int) -> None:
        problem.begin(generation)
        problem.choose_images(position(search))
        run_generation(search)

    with whole_operations():
        began = tell()
        for first, end in reversed(parts):  # the last phase is the slowest one, as a rule
            each = slowest
            if slowest == 0.0 or tell() - began + 2 * slowest <= MEASURING * left:
                each = _seconds_again(partial(run, (first + end) // 2), tell, repeats, allowance / len(parts), left)
            slowest = max(slowest, each)
            total += (end - first) * each
    return total / recipe.generations


def _seconds_again(
    run: Callable[[], None], tell: Callable[[], float], repeats: int, allowance: float, left: float
) -> float:
    """Mean time of a call after the first one, which pays for what is compiled or allocated once.

    Where the first one alone took half of what is left, its own time.
    """
    began = tell()
    run()
    again = tell()
    if again - began > left / 2:
        return again - began
    done = 0
    while done < 1 or (done < repeats and tell() - again < allowance):
        run()
        done += 1
    return (tell() - again) / done


def _processor_seconds() -> float:
    return time.process_time() / torch.get_num_threads()


@dataclass(frozen=True)
class Planned:
    """A recipe that fits into a given time.

    Attributes:
        recipe: stretched or shrunk.
        budget: seconds there were, the measurement included.
        seconds: about how long the run takes.
        each: about how long a generation takes, seconds.
        hint: what would leave room for more generations; empty if there are enough.
    """

    recipe: Recipe
    budget: float
    seconds: float
    each: float
    hint: str = ""

    def __str__(self) -> str:
        recipe = self.recipe
        ramp = f"natural until {recipe.natural_until}, full eps from {recipe.ramp_until}"
        return (
            f"planned: {recipe.generations} generations of {self.each:.3g} s, about {self.seconds:.3g} s in all "
            f"({ramp}); start and measurement took {self.budget - self.seconds:.3g} s{self.hint}"
        )


def fitted(
    problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe, budget: float, *, began: float | None = None
) -> Planned:
    """The recipe over as many generations as fit into a time, its phases keeping their share.

    What is measured is time on the clock, on this machine as busy as it is: first with the initial weights, then, where
    a twentieth of the time allows it, with briefly trained ones, whose bounds cost what they will. Measuring leaves out
    what would take more than a third of the time.

    Args:
        problem: what will be trained; its weights are not changed.
        searcher: a key of ``searchers.table.SEARCHERS``.
        recipe: the hyper-parameters.
        budget: seconds, the measurement included.
        began: when they began, by ``time.perf_counter``; None: now.

    Raises:
        ConfigError: actors share the population; or the time is too short.
    """
    if problem.num_actors > 1:
        raise ConfigError("a budget is measured in this process alone: with actors, give --generations instead.")
    began = time.perf_counter() if began is None else began
    clock: dict[str, Any] = {
        "clock": lambda: finished_seconds(problem),
        "allowance": BRIEF_SHARE * budget,
        "left": max(budget - (time.perf_counter() - began), 0.1),
    }
    each = generation_seconds(problem, searcher, recipe, **clock)
    brief = min(BRIEF, recipe.generations, int(BRIEF_SHARE * budget / each))
    method = recipe.method_after_warmup(problem.method)
    center = problem.network.parameter_vector()
    if brief >= SHORTEST_BRIEF:
        center = brief_weights(problem, searcher, recipe, generations=brief)
        each = generation_seconds(problem, searcher, recipe, center=center, **clock)
    looked = finished_seconds(problem)
    center_row(problem, center, images=recipe.evaluate_images)
    look = finished_seconds(problem) - looked
    left = budget - (time.perf_counter() - began)
    generations = int((left - look) / (each + look / recipe.evaluate_every))
    if generations < FEWEST:
        cheapest = ', or a cheaper relaxation: --method ibp (method="ibp") is the cheapest'
        cheaper = "" if method_named(method).passes == "none" else cheapest
        raise ConfigError(
            f"a budget of {budget:.3g} s is too short here and now: start and measurement took {budget - left:.3g} s, "
            f"a generation takes {each:.3g} s, and {max(generations, 0)} fit into the rest; "
            f"give at least {2 * (budget - left) + (FEWEST + 1) * each + 2 * look:.3g} s{cheaper}."
        )
    hint = ""
    if FEW * generations < recipe.generations and recipe.loss == "robust" and method_named(method).passes == "all":
        hint = (
            f"; the recipe has {recipe.generations} generations, of which {method} leaves time for few: "
            '--method ibp or crown-ibp (method="crown-ibp"), or a longer budget, trains better'
        )
    return Planned(stretched(recipe, generations), budget, left, each, hint)


def finished_seconds(problem: CertifiedTrainingProblem) -> float:
    """The clock, once a GPU has done what it was given.

    Args:
        problem: what works on the device.
    """
    if torch.device(problem.aux_device).type == "cuda":
        torch.cuda.synchronize(problem.aux_device)
    return time.perf_counter()


def advice(stage: Stage, each: float) -> str:
    """What to do about slow generations; empty where they are not, or where nothing cheaper is near.

    Args:
        stage: what the fitness is. With a stand-in most of its work is cheap already.
        each: seconds a generation.
    """
    if each < SLOW or stage.stand_in or stage.loss != "robust" or method_named(stage.method).passes != "all":
        return ""
    return (
        f"a generation takes about {each:.2g} s: {stage.method} bounds every layer by a backward pass of its own, "
        '--method crown-ibp (method="crown-ibp") makes a single one and is several times faster'
    )


class Adviser:
    """Points out slow generations, once, while a run goes on.

    The quicker of two that follow each other counts: the first one after a start also pays for what is set up once, and
    a single one may have been held up by an evaluation or by other programs.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._done = False

    def hint(self, stage: Stage, seconds: float) -> str:
        """What to do about slow generations; empty where there is nothing to say, or all was said.

        Args:
            stage: of the generation that is over.
            seconds: that it took.
        """
        if self._done or stage.eps == 0.0:
            return ""
        found = advice(stage, min(self._last, seconds))
        self._last = seconds
        self._done = bool(found)
        return found
