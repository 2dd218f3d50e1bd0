from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from gls_es import training
from gls_es.certification import certify
from gls_es.cli.app import app
from gls_es.errors import DataError, TrainingError
from gls_es.experiments import Outcome, Plan, aggregate, make_plan, markdown, read_results, run_plan, runner
from gls_es.experiments.tables import Cell, Published, Table
from gls_es.training import load_trained
from gls_es.training.lock import FolderLock

from .test_plan import TOY


def _finished(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/result.json")}


def test_runs_are_trained_certified_and_filed_once(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, seeds=1, limit=4)
    written = run_plan(TOY, plan, tmp_path).written
    assert sorted(path.parent.name for path in written) == ["grad-ibp-seed0", "pgpe-ibp-seed0"]
    results = read_results(tmp_path)
    assert [r["certification"]["n"] for r in results] == [4, 4]
    assert [r["training"]["generations"] for r in results] == [2, 2]
    before = _finished(tmp_path)
    assert run_plan(TOY, plan, tmp_path) == Outcome(total=2)
    assert _finished(tmp_path) == before


def test_a_run_that_lost_its_result_goes_on_from_its_records(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    (path,) = run_plan(TOY, plan, tmp_path).written
    before = json.loads(path.read_text())
    path.unlink()
    (again,) = run_plan(TOY, plan, tmp_path).written
    after = json.loads(again.read_text())
    assert after["certification"] == before["certification"]  # times, too: nothing was decided anew
    assert after["training"] == before["training"]  # processor time, too


def test_a_run_in_other_hands_is_skipped(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    (tmp_path / "grad-ibp-seed0").mkdir()
    lock = FolderLock(tmp_path / "grad-ibp-seed0" / ".lock")
    said: list[str] = []
    try:
        assert run_plan(TOY, plan, tmp_path, say=said.append) == Outcome(missing=1, total=1)
    finally:
        lock.release()
    assert said == ["grad-ibp-seed0: another process works on it"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be read"),
        ("[]", "is damaged"),
        ("{}", r"is damaged .cell, seed, training, certification missing"),
        ('{"cell": "a", "seed": 0, "training": {"generations": 1, "cpu_seconds": null}, "certification": {"n": "1"}}',
         r"is damaged .certification\.n, certification\.unknown"),
    ],
)  # fmt: skip
def test_a_damaged_result_says_where_it_is(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "grad-ibp-seed0").mkdir()
    (tmp_path / "grad-ibp-seed0" / "result.json").write_text(text)
    with pytest.raises(DataError, match=r"result\.json: " + why):
        read_results(tmp_path)


def test_a_run_that_fails_is_noted_and_those_that_start_from_it_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = replace(CHAIN, cells=(*CHAIN.cells, TOY.cells[1]))
    plan = make_plan(table, tmp_path, seeds=1, limit=4)
    train = training.train

    def failing(problem: str, searcher: str, **options: Any) -> Path:
        if searcher == "grad":
            raise TrainingError("every loss is NaN.")
        return train(problem, searcher, **options)

    monkeypatch.setattr(training, "train", failing)
    outcome = run_plan(table, plan, tmp_path)
    assert [path.parent.name for path in outcome.written] == ["pgpe-ibp-seed0"]
    assert outcome.failed == {
        "grad-ibp-seed0": "every loss is NaN.",
        "rgs-crown-seed0": "not run, because it starts from grad-ibp-seed0",
    }
    monkeypatch.undo()
    assert run_plan(table, plan, tmp_path).failed == {}  # the next call tries again


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    job = next(runner.jobs(TOY, plan, tmp_path))
    job.run.mkdir(parents=True)
    (job.run / "config.toml").write_text("")
    job.verdicts.write_text("of a network that is gone")
    assert run_plan(TOY, plan, tmp_path).written == [job.result]


def test_a_run_killed_while_it_was_certified_keeps_the_time_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)

    def killed(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.certification, "certify", killed)
    with pytest.raises(KeyboardInterrupt):
        run_plan(TOY, plan, tmp_path)
    monkeypatch.undo()
    job = next(runner.jobs(TOY, plan, tmp_path))
    known = json.loads(job.training.read_text())
    assert known["training"]["cpu_seconds"] > 0
    run_plan(TOY, plan, tmp_path)
    (result,) = read_results(tmp_path)
    assert result["training"] == known["training"]
    job.result.unlink()
    job.training.write_text("{}")
    with pytest.raises(DataError, match=r"training\.json: is damaged"):
        run_plan(TOY, plan, tmp_path)


def test_certification_is_shown(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    seen: list[int] = []
    run_plan(TOY, plan, tmp_path, certifying=lambda: nullcontext(lambda done, _total, _counts: seen.append(done)))
    assert seen[-1] == 4


def _result(cell: str, certified: float, unknown: int = 0, seed: int = 0) -> dict[str, object]:
    summary = {"n": 10, "natural_accuracy": 0.9, "adversarial_accuracy": 0.8, "certified_accuracy": certified}
    return {
        "cell": cell,
        "seed": seed,
        "certification": {**summary, "unknown": unknown},
        "training": {"cpu_seconds": 60.0, "generations": 7},
    }


def test_rows_are_means_and_sample_deviations_over_seeds() -> None:
    table = Table("t", "T", "digits-cnn3", 0.1, (Cell("a", "grad", "ibp"), Cell("b", "rgs", "ibp")))
    first, second = aggregate(table, [_result("a", 0.5, unknown=1), _result("a", 0.7, unknown=3)])
    assert (first.n, first.mean["certified_accuracy"], first.unknown) == (2, pytest.approx(0.6), pytest.approx(0.2))
    assert first.stdev["certified_accuracy"] == pytest.approx(0.02**0.5)  # ((0.1)² + (0.1)²) / (2 - 1)
    assert first.stdev["natural_accuracy"] == 0.0
    assert (second.n, dict(second.mean)) == (0, {})


def test_the_table_stands_beside_the_published_numbers() -> None:
    cell = Cell("a", "grad", "ibp", published=Published(natural=0.4805, certified=0.3769))
    table = Table("t", "T", "digits-cnn3", 0.1, (cell,))
    plan = Plan("t", (0,))
    text = markdown(table, plan, aggregate(table, [_result("a", 0.5)]))
    assert "| a | 90.0 | 80.0 | 50.0 | 0 | 1 | 7 | 60 | 48.05 / 37.69 |" in text
    assert "| a | - | - | - | - | 0 | - | - | 48.05 / 37.69 |" in markdown(table, plan, aggregate(table, []))


def test_under_its_title_a_table_says_what_its_numbers_are_about() -> None:
    assert markdown(TOY, Plan("toy", (0,)), []).splitlines()[:3] == [
        "a toy",
        "",
        "Certified: at most the first 1000 test images, with up to 2 s of search for each. "
        "Training of each run: as long as the recipes say.",
    ]
    plan = Plan("toy", (0,), limit=9, train_seconds=50.0, timeout=0.5, validation=9, settings={"popsize": 8})
    assert markdown(TOY, plan, []).splitlines()[2] == (
        "Certified: at most the first 9 validation images, with up to 0.5 s of search for each. "
        "Training of each run: 50 s as planned. Settings of all runs: popsize = 8."
    )


CHAIN = Table(
    "chain",
    "one starts from another",
    "digits-cnn3",
    0.1,
    (
        Cell("grad-ibp", "grad", "ibp", {"generations": 2, "batch_size": 8}),
        Cell("rgs-crown", "rgs", "crown", {"generations": 2, "batch_size": 8, "popsize": 1}, start="grad-ibp"),
    ),
)


def test_a_run_begins_where_its_start_ended(tmp_path: Path) -> None:
    """A single step of size 0 from the start's result leaves the start's result."""
    still = {"generations": 1, "batch_size": 8, "popsize": 1, "center_learning_rate": 1e-30}
    table = replace(CHAIN, cells=(CHAIN.cells[0], Cell("still", "rgs", "crown", still, start="grad-ibp")))
    plan = make_plan(table, tmp_path, cells=["still"], seeds=2, limit=4)
    assert sorted(plan.generations) == ["grad-ibp", "still"]
    written = run_plan(table, plan, tmp_path, cells=["still"]).written
    assert [path.parent.name for path in written] == [f"{n}-seed{s}" for s in (0, 1) for n in ("grad-ibp", "still")]
    for seed in (0, 1):
        before, after = (_center(tmp_path / f"{name}-seed{seed}") for name in ("grad-ibp", "still"))
        assert torch.equal(before, after)
    assert not torch.equal(_center(tmp_path / "still-seed0"), _center(tmp_path / "still-seed1"))
    result = json.loads((tmp_path / "still-seed1" / "result.json").read_text())
    assert "--out START && gls-es train" in result["command"]
    assert "--init START/checkpoint.pt" in result["command"]


def _center(folder: Path) -> torch.Tensor:
    return load_trained(folder / "run" / "checkpoint.pt").content["center"]


def test_a_start_in_other_hands_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(CHAIN, tmp_path, seeds=1, limit=4)
    (tmp_path / "grad-ibp-seed0").mkdir()
    lock = FolderLock(tmp_path / "grad-ibp-seed0" / ".lock")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            lock.release()  # its process ended without a result

    monkeypatch.setattr(runner.time, "sleep", nap)
    try:
        written = run_plan(CHAIN, plan, tmp_path).written
    finally:
        lock.release()
    assert len(naps) == 2
    assert [path.parent.name for path in written] == ["grad-ibp-seed0", "rgs-crown-seed0"]


def test_a_trained_start_is_enough_and_free_runs_come_before_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is in other hands all the time, which train it while the run that waits for nothing is done."""
    table = replace(CHAIN, cells=(*CHAIN.cells, TOY.cells[1]))
    plan = make_plan(table, tmp_path, seeds=1, limit=4)
    start = next(runner.jobs(table, plan, tmp_path))
    run_plan(table, plan, tmp_path, cells=["grad-ibp"])
    trained = start.training.read_bytes()
    start.result.unlink()
    start.training.unlink()
    lock = FolderLock(start.folder / ".lock")
    monkeypatch.setattr(runner.time, "sleep", lambda _seconds: start.training.write_bytes(trained))
    said: list[str] = []
    try:
        outcome = run_plan(table, plan, tmp_path, say=said.append)
    finally:
        lock.release()
    assert [path.parent.name for path in outcome.written] == ["pgpe-ibp-seed0", "rgs-crown-seed0"]
    assert (outcome.missing, outcome.total) == (1, 3)
    assert [line for line in said if "generations" not in line] == [
        "grad-ibp-seed0: another process works on it",
        "rgs-crown-seed0: waits for grad-ibp-seed0, which another process works on",
    ]


def test_the_time_of_the_start_counts() -> None:
    runs = [_result("grad-ibp", 0.5, seed=0), _result("rgs-crown", 0.5, seed=0), _result("rgs-crown", 0.5, seed=1)]
    alone, after = aggregate(CHAIN, runs)
    assert alone.cpu_seconds == 60
    assert after.cpu_seconds == 120  # of the one whose start is known


def test_images_of_the_validation_split_are_certified_and_the_command_says_so(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4, validation=9, settings={"batch_size": 4})
    run_plan(TOY, plan, tmp_path)
    (result,) = read_results(tmp_path)
    assert result["recipe"]["batch_size"] == 4
    assert "--set batch_size=4 --set validation=9" in result["command"]
    assert result["command"].endswith("--split validation")
    trained = load_trained(tmp_path / "grad-ibp-seed0" / "run" / "checkpoint.pt")
    held_out = trained.dataset(None).validation
    assert held_out is not None
    assert len(held_out) == 9
    header = json.loads((tmp_path / "grad-ibp-seed0" / "verdicts.jsonl").read_text().splitlines()[0])
    images, labels = held_out.batch(slice(0, 4))
    again = certify(trained, images, labels, 0.1, stages=runner.STAGES, records=tmp_path / "again.jsonl", timeout=2.0)
    assert again.n == 4
    assert header["data"] == json.loads((tmp_path / "again.jsonl").read_text().splitlines()[0])["data"]


def test_the_command_of_a_result_trains_the_same_weights(tmp_path: Path) -> None:
    """Phases, settings of the cell and settings of the plan are all in it."""
    settings = {"generations": 40, "natural_until": 20, "ramp_until": 30, "popsize": 2, "learning_rate_drops": [10, 30]}
    cell = Cell("pgpe", "pgpe", "crown", settings)
    table = Table("t", "T", "digits-cnn3", 0.1, (cell,))
    plan = replace(make_plan(table, tmp_path, seeds=1, limit=4, settings={"batch_size": 8}), generations={"pgpe": 4})
    run_plan(table, plan, tmp_path)
    (result,) = read_results(tmp_path)
    recipe = result["recipe"]
    assert [recipe[name] for name in ("generations", "natural_until", "ramp_until", "batch_size")] == [4, 2, 3, 8]
    assert "--set 'learning_rate_drops=[1, 3]'" in result["command"]
    training = result["command"].split(" && ")[0].replace("--out RUN", f"--out {tmp_path / 'again'}")
    assert CliRunner().invoke(app, shlex.split(training)[1:]).exit_code == 0
    assert torch.equal(
        load_trained(tmp_path / "again" / "checkpoint.pt").content["center"], _center(tmp_path / "pgpe-seed0")
    )
