"""The tables of full length, and several processes on one plan."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gls_es import training
from gls_es.errors import TrainingError
from gls_es.experiments import (
    FULL,
    TABLES,
    Outcome,
    aggregate,
    compare,
    make_plan,
    markdown,
    processes,
    read_results,
    run_in_processes,
)
from gls_es.experiments.plan import Plan
from gls_es.experiments.runner import jobs
from gls_es.searchers.table import SEARCHERS
from gls_es.training import TrainingInterrupted

from .test_plan import TOY

ALIKE = (
    "generations", "batch_size", "natural_until", "optimizer", "center_learning_rate", "learning_rate_end",
    "gradient_clip", "eps_factor", "natural_weight", "natural_weight_start", "initial_weights", "ramp",
)  # fmt: skip


@pytest.mark.parametrize("name", list(FULL))
def test_all_cells_draw_the_same_images_with_the_same_steps(name: str) -> None:
    table, plain = FULL[name], TABLES[name]
    assert (table.problem, table.eps) == (plain.problem, plain.eps)
    assert table.name not in TABLES  # or their results would be filed together
    assert len(set(table.cell_names)) == len(table.cells)
    plan = Plan(table.name, (0,))
    recipes = {cell.name: plan.recipe(table, cell).as_dict() for cell in table.cells}
    usual = recipes["grad-ibp"]
    for cell in table.cells:
        assert cell.searcher in SEARCHERS
        found = recipes[cell.name]
        if cell.start:
            assert 2 * found["generations"] == usual["generations"] - usual["generations"] % 2  # type: ignore[operator]
        else:
            assert [found[key] for key in ALIKE] == [usual[key] for key in ALIKE]
            assert found["loss"] == cell.settings.get("loss", "robust")
    six = {f"{searcher}-{method}" for searcher in ("grad", "rgs") for method in ("ibp", "crown-ibp", "crown")}
    assert six < set(table.chosen([]))
    assert all(not table.cell(cell).start for cell in table.chosen([]))
    noises = {(recipes[c]["stdev_mode"], recipes[c]["stdev_init"]) for c in table.chosen(["rgs-crown*"])}
    assert {("absolute", sigma) for sigma in (0.01, 0.03, 0.06, 0.1)} < noises
    assert ("relative", 0.1) in noises


def test_the_pilot_is_a_cell_of_the_digits() -> None:
    table = FULL["digits-0.1"]
    recipe = Plan(table.name, (0,)).recipe(table, table.cell("rgs-crown-s0.06"))
    assert (recipe.generations, recipe.natural_until, recipe.ramp_until, recipe.batch_size) == (12_000, 800, 6000, 64)
    assert (recipe.optimizer, recipe.center_learning_rate, recipe.learning_rate_end) == ("adam", 0.01, 0.01)
    assert (recipe.popsize, recipe.stdev_init, recipe.stdev_mode, recipe.eps_factor) == (1, 0.06, "absolute", 1.1)


@pytest.mark.slow
def test_two_processes_share_a_plan_and_find_what_one_would(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, seeds=2, limit=4)
    said: list[str] = []
    outcome = run_in_processes(TOY, plan, tmp_path, count=2, say=said.append)
    assert (len(outcome.written), outcome.failed, outcome.missing, outcome.total) == (4, {}, 0, 4)
    assert sum(line.endswith("2 generations") for line in said) == 4  # each run once
    results = read_results(tmp_path)
    assert {len(result["outcomes"]) for result in results} == {4}
    for result in results:
        counts = result["certification"]["verdicts"]
        assert {name[0]: count for name, count in counts.items() if count} == {
            letter: result["outcomes"].count(letter) for letter in set(result["outcomes"])
        }
    rows = aggregate(TOY, results)
    assert [row.seen for row in rows] == [16, 16]
    differences = compare(TOY, results)
    assert [(found.cell, found.seeds) for found in differences] == [("pgpe-ibp", (0, 1))]
    (line,) = (x for x in markdown(TOY, plan, rows, differences).splitlines() if x.endswith("| 2 |"))
    assert line.startswith("| pgpe-ibp | ")


def test_a_process_tells_what_failed_and_what_stopped_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body of a process, in this one; its pipe is a list."""
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    options = {"cells": (), "data_root": None, "device": "cpu"}

    def told(error: Exception) -> list[tuple[str, Any]]:
        def failing(*_args: object, **_options: object) -> None:
            raise error

        sent: list[tuple[str, Any]] = []
        monkeypatch.setattr(training, "train", failing)
        processes._work(SimpleNamespace(send=sent.append), 1, TOY, plan, tmp_path, options)  # type: ignore[arg-type]
        return [message for message in sent if message[0] != "said"]

    ((kind, outcome),) = told(TrainingError("every loss is NaN."))
    assert (kind, outcome.failed) == ("done", {"grad-ibp-seed0": "every loss is NaN."})
    everything = list(jobs(TOY, plan, tmp_path))
    whole = processes._together([(kind, outcome), ("done", Outcome(total=1))], 2, everything)
    assert (whole.failed, whole.missing, whole.total) == (outcome.failed, 0, 1)
    with pytest.raises(TrainingInterrupted, match="the same command"):
        processes._together(told(TrainingInterrupted("stopped; the same command", at_once=True)), 1, everything)
    with pytest.raises(TrainingError, match="1 of 2 processes ended without a result"):
        processes._together([(kind, outcome)], 2, everything)
