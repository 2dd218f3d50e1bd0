"""How many generations fit into a given time: measured on this machine, cell by cell."""

from __future__ import annotations

import time

import torch

from gls_es.problem import CertifiedTrainingProblem
from gls_es.recipe import Recipe
from gls_es.searchers.table import build, finish_generation
from gls_es.threads import whole_operations
from gls_es.training.schedules import Schedule

MOMENTS = (0.05, 0.25, 0.45, 0.65, 0.85)
"""Where in a run generations are timed: natural training, the ramp and the full radius cost differently."""


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
    times = []
    with whole_operations():
        for moment in (MOMENTS[0], *MOMENTS):  # the first one is a warm-up
            problem.begin(int(moment * recipe.generations))
            began = time.process_time()
            search.step()
            finish_generation(search)
            times.append(time.process_time() - began)
    return sum(times[1:]) / len(MOMENTS) / torch.get_num_threads()
