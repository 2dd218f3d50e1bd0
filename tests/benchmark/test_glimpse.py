"""How long a run will take: as much is timed as seconds allow, and what is said is what that comes to."""

from __future__ import annotations

from typing import Any

import pytest

from gls_es.benchmark import glimpse, timed_plan
from gls_es.problem.recipe import Recipe
from tests.problem.toys import Blobs, options

RECIPE = Recipe(generations=100, popsize=64, batch_size=16, natural_until=10, ramp_until=50)
IMAGES = 16


WHOLE = (64, IMAGES, 3)
PART = (4, 2, 3)


@pytest.mark.parametrize(
    ("counted", "overhead", "cost", "how", "timed"),
    [
        (0.01, 0.0, 1e-5, "measured", [WHOLE]),  # the count allows whole generations in all three phases
        (0.0, 0.0, 1e-5, "measured", [PART, WHOLE]),  # nothing can be counted: a part says the same
        (5.0, 0.0, 4e-3, "one generation", [PART, (64, IMAGES, 1)]),  # 4 s each
        (5.0, 0.0, 1e-2, "on a part", [PART, (16, 8, 3)]),  # 10 s each: not even one, but a larger part
        (5.0, 0.06, 1e-5, "measured", [PART, (16, 8, 3), WHOLE]),  # 128 small parts would take 8 s
        (1e4, 0.0, 1e9, "counted", []),  # a hundredth of it would take minutes
    ],
)
def test_as_much_is_timed_as_seconds_allow(
    counted: float,
    overhead: float,
    cost: float,
    how: str,
    timed: list[tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that needs ``cost`` seconds for each image of each member, and some for any number of them."""
    seen: list[tuple[int, int, int]] = []
    now = [0.0]

    def seconds(problem: Any, _searcher: str, recipe: Recipe, **_options: Any) -> float:
        seen.append((recipe.popsize, problem.batch_size, len(glimpse.timing.phases(recipe))))
        each = overhead + cost * recipe.popsize * problem.batch_size
        now[0] += 2 * seen[-1][-1] * each
        return each

    monkeypatch.setattr(glimpse.timing, "generation_seconds", seconds)
    monkeypatch.setattr(glimpse.timing, "finished_seconds", lambda _problem: now[0])
    monkeypatch.setattr(glimpse, "_counted", lambda *_arguments: counted)
    problem = Blobs(batch_size=IMAGES)
    found = glimpse.glimpse(problem, "pgpe", RECIPE)
    assert (found.how, seen) == (how, timed)
    assert found.each == pytest.approx(counted if how == "counted" else overhead + cost * 64 * IMAGES)
    assert found.seconds == pytest.approx(100 * found.each)
    assert problem.batch_size == IMAGES


def test_a_part_has_its_share_of_dear_images() -> None:
    """A quarter of the images get the method itself, in any part, or nearly all of the 64 would seem to."""
    recipe = RECIPE.replaced(stand_in="crown-ibp", exact_images=4, candidates=4)
    parts = glimpse._parts("pgpe", recipe, IMAGES)
    assert [part.recipe.exact_images / part.images for part in parts] == [1 / 4] * len(parts)
    assert [part.share * part.recipe.popsize * part.images for part in parts] == [64 * IMAGES] * len(parts)
    assert [part.share for part in parts] == [64, 16, 4, 2]
    assert {part.recipe.candidates for part in parts} == {1}  # of one member only
    alone = glimpse._parts("snes", recipe, IMAGES)  # which is told how many members there are
    assert [(part.recipe.popsize, part.recipe.candidates, part.images) for part in alone] == [(64, 4, 4), (64, 4, 8)]


def test_a_plan_of_a_problem_of_ones_own_has_times_and_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    found = timed_plan(Blobs, "rgs", generations=10, overrides=options())
    assert found["timed"] == "measured"
    assert 0 < found["seconds_each"] < 10
    assert found["seconds"] == pytest.approx(10 * found["seconds_each"])
    assert "hint" not in found
    monkeypatch.setattr(glimpse.timing, "SLOW", 0.0)
    assert "--method crown-ibp" in timed_plan(Blobs, "rgs", generations=10, overrides=options())["hint"]
    assert "hint" not in timed_plan(Blobs, "rgs", generations=10, overrides=options(), method="ibp")
    assert "hint" not in timed_plan(Blobs, "rgs", generations=10, overrides=options(stand_in="crown-ibp"))
    assert "seconds" not in timed_plan(Blobs, "rgs", budget=2, overrides=options())  # the budget says it
