"""How long a run will take: as much is timed as seconds allow, and what is said is what that comes to."""

from __future__ import annotations

from typing import Any

import pytest

from gls_es.benchmark import glimpse, timed_plan
from gls_es.problem.recipe import Recipe
from tests.problem.toys import Blobs, options

RECIPE = Recipe(generations=100, popsize=64, batch_size=16, natural_until=10, ramp_until=50)
IMAGES = 16


@pytest.mark.parametrize(
    ("counted", "cost", "how", "timed"),
    [
        (0.01, 1e-5, "measured", [(64, IMAGES, 3)]),  # the count allows whole generations in all three phases
        (0.0, 1e-5, "measured", [(4, 2, 3), (64, IMAGES, 3)]),  # nothing can be counted: a part says the same
        (5.0, 4e-3, "one generation", [(4, 2, 3), (64, IMAGES, 1)]),  # 4 s each
        (5.0, 1e-2, "on a part", [(4, 2, 3)]),  # 10 s each: not even one
        (1e4, 1e9, "counted", []),  # a hundredth of it would take minutes
    ],
)
def test_as_much_is_timed_as_seconds_allow(
    counted: float, cost: float, how: str, timed: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that needs ``cost`` seconds for each image of each member."""
    seen: list[tuple[int, int, int]] = []

    def seconds(problem: Any, _searcher: str, recipe: Recipe, **_options: Any) -> float:
        seen.append((recipe.popsize, problem.batch_size, len(glimpse.timing.phases(recipe))))
        return cost * recipe.popsize * problem.batch_size

    monkeypatch.setattr(glimpse.timing, "generation_seconds", seconds)
    monkeypatch.setattr(glimpse, "_counted", lambda *_arguments: counted)
    problem = Blobs(batch_size=IMAGES)
    found = glimpse.glimpse(problem, "pgpe", RECIPE)
    assert (found.how, seen) == (how, timed)
    assert found.each == pytest.approx(counted if how == "counted" else cost * 64 * IMAGES)
    assert found.seconds == pytest.approx(100 * found.each)
    assert problem.batch_size == IMAGES


def test_a_plan_of_a_problem_of_ones_own_has_times_and_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    found = timed_plan(Blobs, "rgs", generations=10, overrides=options())
    assert found["timed"] == "measured"
    assert 0 < found["seconds_each"] < 10
    assert found["seconds"] == pytest.approx(10 * found["seconds_each"])
    assert "hint" not in found
    monkeypatch.setattr(glimpse.timing, "SLOW", 0.0)
    assert "--method crown-ibp" in timed_plan(Blobs, "rgs", generations=10, overrides=options())["hint"]
    assert "hint" not in timed_plan(Blobs, "rgs", generations=10, overrides=options(), method="ibp")
    assert "seconds" not in timed_plan(Blobs, "rgs", budget=2, overrides=options())  # the budget says it
