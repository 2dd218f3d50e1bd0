"""Training: the loop around a searcher, its schedules, its run folder and its checkpoints.

Names are imported on first use: reading a checkpoint needs no evotorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gls_es.problem.own import owned as owned
    from gls_es.problem.recipe import Recipe as Recipe
    from gls_es.training.actors import Actors as Actors
    from gls_es.training.bookkeeping import Bookkeeping as Bookkeeping
    from gls_es.training.handed import TrainedModule as TrainedModule
    from gls_es.training.loop import TrainingInterrupted as TrainingInterrupted
    from gls_es.training.runs import plan as plan
    from gls_es.training.runs import resume as resume
    from gls_es.training.runs import train as train
    from gls_es.training.trained import Trained as Trained
    from gls_es.training.trained import load_trained as load_trained

_LAZY = {
    "Actors": "gls_es.training.actors",
    "Bookkeeping": "gls_es.training.bookkeeping",
    "Recipe": "gls_es.problem.recipe",
    "TrainedModule": "gls_es.training.handed",
    "Trained": "gls_es.training.trained",
    "TrainingInterrupted": "gls_es.training.runs",
    "load_trained": "gls_es.training.trained",
    "owned": "gls_es.problem.own",
    "plan": "gls_es.training.runs",
    "resume": "gls_es.training.runs",
    "train": "gls_es.training.runs",
}

__all__ = [
    "Actors",
    "Bookkeeping",
    "Recipe",
    "Trained",
    "TrainedModule",
    "TrainingInterrupted",
    "load_trained",
    "owned",
    "plan",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'gls_es.training' has no attribute {name!r}")
