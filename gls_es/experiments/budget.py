"""How many generations fit into a given time: measured on this machine, cell by cell."""

from __future__ import annotations

import itertools
import time

import torch

from gls_es.problem import CertifiedTrainingProblem
from gls_es.recipe import Recipe
from gls_es.searchers.table import build, run_generation
from gls_es.threads import whole_operations
from gls_es.training.schedules import Schedule

REPEATS = 5
"""Generations timed in each phase of a run."""


def phases(recipe: Recipe) -> list[tuple[int, int]]:
    """Where a run's cost per generation changes: first and last generation (exclusive) of every phase that is there.

    Natural training, the ramp under another relaxation and under the run's own, and the full radius cost differently.
    """
    whole = recipe.generations
    inner = {min(end, whole) for end in (recipe.natural_until, recipe.warmup_until, recipe.ramp_until)}
    ends = sorted({0, whole} | inner)
    return list(itertools.pairwise(ends))


def generation_seconds(problem: CertifiedTrainingProblem, searcher: str, recipe: Recipe) -> float:
    """Mean time of a generation over the whole of a recipe.

    Processor time of this process divided by its threads, so that other programs on the machine do not count.

    Args:
        problem: what would be trained; its weights are not changed.
        searcher: a key of ``searchers.table.SEARCHERS``.
        recipe: the hyper-parameters; a run stretched to more generations has the same mean.
    """
    problem.stages = Schedule(recipe, problem.eps, problem.method).stage
    search = build(searcher, problem, recipe)
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
