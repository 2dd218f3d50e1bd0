"""How many generations fit into a given time: measured on this machine, cell by cell."""

from __future__ import annotations

import itertools
import time

import torch
from torch import Tensor

from gls_es.basics.threads import whole_operations
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build, position, run_generation
from gls_es.training.schedules import Schedule
from gls_es.training.settings import stretched

REPEATS = 5
"""Generations timed in each phase of a run."""
BRIEF = 300
"""Generations of a training that stands for a whole one: enough for most neurons to become stable."""


def phases(recipe: Recipe) -> list[tuple[int, int]]:
    """Where a run's cost per generation changes: first and last generation (exclusive) of every phase that is there.

    Natural training, the ramp under another relaxation and under the run's own, and the full radius cost differently.
    """
    whole = recipe.generations
    inner = {min(end, whole) for end in (recipe.natural_until, recipe.warmup_until, recipe.ramp_until)}
    ends = sorted({0, whole} | inner)
    return list(itertools.pairwise(ends))


def brief_weights(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe) -> Tensor:
    """Weights that cost about what trained ones do, (L,): the recipe, phases and all, in :data:`BRIEF` generations.

    Bounds that go back only where a neuron is unstable cost several times as much on random weights.

    Args:
        problem: what is trained; its weights are not changed.
        searcher: a key of ``searchers.table.SEARCHERS``.
        recipe: the hyper-parameters; a shorter run is not made longer.
    """
    short = stretched(recipe, min(BRIEF, recipe.generations))
    problem.stages = Schedule(short, problem.eps, problem.method).stage
    search = build(searcher, problem, short)
    with whole_operations():
        for generation in range(short.generations):
            problem.begin(generation)
            run_generation(search)
    return position(search)


def generation_seconds(
    problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe, *, center: Tensor | None = None
) -> float:
    """Mean time of a generation over the whole of a recipe.

    Processor time of this process divided by its threads, so that other programs on the machine do not count.

    Args:
        problem: what would be trained; its weights are not changed.
        searcher: a key of ``searchers.table.SEARCHERS``.
        recipe: the hyper-parameters; a run stretched to more generations has the same mean.
        center: the weights that a run begins with, (L,); None: the problem's own.
    """
    problem.stages = Schedule(recipe, problem.eps, problem.method).stage
    search = build(searcher, problem, recipe, center=center)
    total = 0.0
    with whole_operations():
        for first, end in phases(recipe):
            problem.begin((first + end) // 2)
            run_generation(search)  # what is compiled or allocated once
            began = time.process_time()
            for _ in range(REPEATS):
                run_generation(search)
            total += (end - first) * (time.process_time() - began) / REPEATS
    return total / recipe.generations / torch.get_num_threads()
