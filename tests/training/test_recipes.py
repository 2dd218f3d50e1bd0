"""Losses and schedules of a recipe in whole runs: what is filed, what a problem settles, and how it resumes."""

import tomllib
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gls_es.errors import ConfigError
from gls_es.problem.recipe import Recipe
from gls_es.training import TrainingInterrupted, load_trained, plan, resume, train
from gls_es.training.checkpoint import load_checkpoint
from gls_es.training.settings import stretched
from tests.problem.toys import Blobs, options

from .running import BLOBS, GENERATIONS, StopAfter, assert_same, rows, run, timeless

CHANGES: dict[str, Any] = {
    "loss": "sabr",
    "sabr_lambda": 0.6,
    "attack_steps": 3,
    "attack_restarts": 2,
    "initial_weights": "ibp",
    "ramp": "smooth",
    "ramp_until": 10,
    "ramp_regularizer": 0.3,
    "natural_weight_start": 0.5,
    "learning_rate_drops": [6, 9],
}


@pytest.mark.parametrize("searcher", ["pgpe", "rgs", "grad"])
def test_a_stopped_run_with_attacks_goes_on_bit_for_bit(tmp_path: Path, searcher: str) -> None:
    straight = run(tmp_path / "straight", searcher=searcher, **CHANGES)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "broken", searcher=searcher, progress=StopAfter(7), **CHANGES)
    again = resume(tmp_path / "broken")
    assert_same(timeless(load_checkpoint(straight)), timeless(load_checkpoint(again)))
    log = rows(straight.parent)
    assert [timeless(row) for row in log] == [timeless(row) for row in rows(again.parent)]
    assert log[8]["lr"] / log[0]["lr"] < 0.2 < log[5]["lr"] / log[0]["lr"]


class Cheap(Blobs):
    """Its RGS trains under crown-ibp unless told otherwise; the problem's own is crown."""

    recipes: ClassVar[dict[str, Recipe]] = {
        "rgs": Recipe(generations=6, popsize=1, main_method="crown-ibp", ramp_until=1)
    }


@pytest.mark.parametrize(
    ("problem", "asked", "wanted"),
    [
        (Cheap, {}, "crown-ibp"),
        (Cheap, {"method": "crown"}, "crown"),
        (Cheap, {"overrides": {"main_method": "ibp"}}, "ibp"),
        (Cheap, {"overrides": {"loss": "sabr"}}, "ibp"),
        (Cheap(), {}, "crown-ibp"),
        (Cheap(method="crown"), {}, "crown"),
    ],
)
def test_a_recipes_method_gives_way_to_one_that_is_named(
    tmp_path: Path, problem: Any, asked: dict[str, Any], wanted: str
) -> None:
    checkpoint = train(problem, "rgs", out=tmp_path / "run", **asked)
    assert plan(problem, "rgs", **asked)["method"] == wanted
    assert {row["method"] for row in rows(checkpoint.parent)[2:]} == {wanted}


def test_the_resolved_recipe_is_filed_and_shown(tmp_path: Path) -> None:
    checkpoint = run(tmp_path / "run", **CHANGES)
    config = tomllib.loads((checkpoint.parent / "config.toml").read_text())
    shown = plan(BLOBS, generations=GENERATIONS, overrides=options(**CHANGES))
    for recipe in (config["recipe"], shown["recipe"], load_checkpoint(checkpoint)["recipe"]):
        assert {key: recipe[key] for key in CHANGES} == CHANGES
        assert recipe["mtl_ibp_alpha"] == Recipe().mtl_ibp_alpha  # what is not set is there, too
    assert config["method"] == shown["method"] == "ibp"  # the usual one with SABR; the problem's is crown
    again = run(tmp_path / "again", **config["recipe"] | {"generations": GENERATIONS})
    assert_same(timeless(load_checkpoint(checkpoint)), timeless(load_checkpoint(again)))
    trained = load_trained(checkpoint)
    assert (trained.problem.loss, trained.method) == ("sabr", "ibp")


def test_drops_keep_their_share_of_a_stretched_run() -> None:
    recipe = Recipe(generations=100, ramp_until=50, learning_rate_drops=(60, 80))
    longer = stretched(recipe, 250)
    assert (longer.ramp_until, longer.learning_rate_drops) == (125, (150, 200))


def test_a_problem_object_settles_its_loss(tmp_path: Path) -> None:
    problem = Blobs(loss="mtl-ibp", initial_weights="ibp", batch_size=8)
    checkpoint = train(problem, "grad", out=tmp_path / "run", generations=3, overrides={"mtl_ibp_alpha": 0.2})
    recipe = load_checkpoint(checkpoint)["recipe"]
    assert (recipe["loss"], recipe["initial_weights"], recipe["mtl_ibp_alpha"]) == ("mtl-ibp", "ibp", 0.2)
    assert problem.stage.mtl_ibp_alpha == 0.2
    with pytest.raises(ConfigError, match="loss is settled by the problem object"):
        train(problem, "grad", out=tmp_path / "other", overrides={"loss": "natural"})


def test_an_unknown_loss_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown loss 'saber': did you mean 'sabr'"):
        run(tmp_path / "run", loss="saber")
    assert not (tmp_path / "run").exists()
