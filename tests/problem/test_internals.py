"""The guard names what the installed EvoTorch lacks."""

from __future__ import annotations

import pytest
from evotorch import Problem
from evotorch.algorithms import PGPE

from gls_es.errors import TrainingError
from gls_es.problem import internals
from gls_es.searchers.state import position
from tests.problem.toys import Blobs


def test_this_evotorch_has_all_of_them() -> None:
    assert internals.missing() == []
    internals.check()
    options = {"popsize": 4, "center_learning_rate": 0.1, "stdev_learning_rate": 0.0, "stdev_init": 0.1}
    searcher = PGPE(Blobs(), **options)
    searcher.run(1)
    assert position(searcher) is not None
    assert all(hasattr(searcher, name) for name in internals.INTERNALS[internals.GaussianSearchAlgorithm])


def test_what_is_gone_is_named() -> None:
    class Renamed(Problem):
        """Nothing new."""

    table = {Renamed: ("_actors", "_old_name", "_other")}
    assert internals.missing(table) == ["Renamed._old_name", "Renamed._other"]
    with pytest.raises(TrainingError, match=r"lacks Renamed._old_name, Renamed._other.*pip install evotorch==0.6.1"):
        internals.check(table)
