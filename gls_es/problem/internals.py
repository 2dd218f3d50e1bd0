"""What gls-es uses of EvoTorch that EvoTorch does not promise to keep, and which of it is gone.

The searchers' generations are finished, saved and resumed through attributes whose names begin with an underscore.
Another release of EvoTorch may rename them; then one sentence says which, instead of a traceback from within.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Mapping
from types import CodeType

from evotorch import Problem
from evotorch.algorithms.distributed.gaussian import GaussianSearchAlgorithm
from evotorch.distributions import SeparableGaussian, SymmetricSeparableGaussian

from gls_es.errors import TrainingError

INTERNALS: Mapping[type, tuple[str, ...]] = {
    Problem: (
        "_actors",
        "_after_eval_status",
        "_evaluate_batch",
        "_make_sync_data_for_actors",
        "_num_gpus_per_actor",
        "_parallelize",
        "_sample_and_compute_gradients",
        "_start_preparations",
        "_sync_after",
        "_sync_before",
        "_use_sync_data_from_main",
    ),
    GaussianSearchAlgorithm: (
        "_center_learning_rate",
        "_distribution",
        "_first_iter",
        "_popsize",
        "_population",
        "_ranking_method",
        "_stdev_learning_rate",
        "_steps_count",
        "_update_distribution",
    ),
    SeparableGaussian: ("_compute_gradients", "modified_copy"),
    SymmetricSeparableGaussian: ("_compute_gradients", "_fill"),
}
"""By class, the names of its methods and attributes that gls-es reads, calls or overrides."""


def missing(table: Mapping[type, tuple[str, ...]] = INTERNALS) -> list[str]:
    """Those of the names that the installed EvoTorch no longer has, as ``Class.name``, sorted.

    A name is there if a class or one of its ancestors has it, or if one of their methods mentions such an attribute.

    Args:
        table: names by class.
    """
    gone = []
    for cls, names in table.items():
        known = {name for ancestor in cls.__mro__[:-1] for name in _mentioned(ancestor)}
        gone += [f"{cls.__name__}.{name}" for name in names if not hasattr(cls, name) and name not in known]
    return sorted(gone)


def check(table: Mapping[type, tuple[str, ...]] = INTERNALS) -> None:
    """Refuse to train with an EvoTorch that lacks what gls-es uses.

    Args:
        table: names by class.

    Raises:
        TrainingError: something is missing; the message names it, and the release that is known to work.
    """
    gone = missing(table)
    if gone:
        version = importlib.metadata.version("evotorch")
        raise TrainingError(
            f"EvoTorch {version} lacks {', '.join(gone)}, on which gls-es relies; pip install evotorch==0.6.1 brings "
            "a release that has it."
        )


def _mentioned(cls: type) -> set[str]:
    """Names of attributes in the code of a class' own methods."""
    methods = [value for value in vars(cls).values() if inspect.isfunction(value)]
    codes: list[CodeType] = [method.__code__ for method in methods]
    return {name for code in codes for name in code.co_names}
