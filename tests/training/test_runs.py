"""Whole runs on a toy problem: what they leave, and that a seed decides them."""

import os
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from gls_es.errors import CheckpointError, ConfigError, TrainingError
from gls_es.training import Bookkeeping, TrainingInterrupted, load_trained, plan, resume, train
from gls_es.training.checkpoint import load_checkpoint
from tests.problem.toys import Blobs, Doomed, NotAProblem, options

from .running import BLOBS, GENERATIONS, Recording, StopAfter, assert_same, rows, run, timeless

# What a run leaves --------------------------------------------------------------------------------------------------


def test_a_run_leaves_its_settings_its_log_and_its_state(tmp_path: Path) -> None:
    progress = Recording()
    checkpoint = run(tmp_path / "run", eps=0.05, method="ibp", progress=progress)
    assert checkpoint == tmp_path / "run" / "checkpoint.pt"
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert (config["problem"], config["searcher"], config["eps"], config["method"]) == (BLOBS, "pgpe", 0.05, "ibp")
    assert config["recipe"]["generations"] == GENERATIONS
    assert config["recipe"]["popsize"] == 6
    log = rows(tmp_path / "run")
    assert [row["generation"] for row in log] == list(range(1, GENERATIONS + 1))
    assert [row["eps"] for row in log] == pytest.approx([0, 0, 0, 0.05 / 3, 0.1 / 3, *7 * [0.05]])
    assert [row["generation"] for row in log if "certified_accuracy" in row] == [4, 8, 12]
    assert all(0 <= row["certified_accuracy"] <= row["natural_accuracy"] <= 1 for row in log[3::4])
    planned = plan(BLOBS, eps=0.05, method="ibp", generations=GENERATIONS, overrides=options())
    assert progress.plans == [planned | {"generation": 0}]
    assert [dict(row) for row in progress.rows] == [row | {k: e[k] for k in ("eta_seconds", "seconds_each")} for row, e in zip(log, progress.rows, strict=True)]  # fmt: skip # noqa: E501
    assert progress.summaries[0]["certified_accuracy"] == log[-1]["certified_accuracy"]
    content = load_checkpoint(checkpoint)
    assert content["generation"] == GENERATIONS
    assert content["history"] == {k: log[-1][k] for k in ("natural_accuracy", "certified_accuracy")}


@pytest.mark.parametrize("searcher", ["pgpe", "rgs", "grad"])
def test_training_learns(tmp_path: Path, searcher: str) -> None:
    checkpoint = train(
        Blobs, searcher, out=tmp_path / "run", eps=0.03, generations=60,
        overrides=options(popsize=20, batch_size=20, stdev_init=0.05, center_learning_rate=0.1, ramp_until=20),
    )  # fmt: skip
    assert load_checkpoint(checkpoint)["history"]["certified_accuracy"] >= 0.9
    log = rows(checkpoint.parent)
    assert log[-1]["mean_loss"] < 0.5 * log[0]["mean_loss"]


def test_the_reported_accuracies_are_those_of_the_center(tmp_path: Path) -> None:
    checkpoint = run(tmp_path / "run", searcher="rgs", center_learning_rate=0.1, eps=0.02)
    trained = load_trained(checkpoint)
    images, labels = trained.dataset().test.batch()
    natural = (trained.network.module()(images).argmax(1) == labels).float().mean()
    assert rows(checkpoint.parent)[-1]["natural_accuracy"] == pytest.approx(float(natural))


def test_schedules_reach_the_searcher(tmp_path: Path) -> None:
    checkpoint = run(tmp_path / "run", learning_rate_end=0.1, center_learning_rate=0.5, stdev_init=0.2, stdev_end=0.25)
    log = rows(checkpoint.parent)
    assert [log[0]["lr"], log[-1]["lr"]] == pytest.approx([0.5, 0.05])
    assert [log[0]["stdev"], log[-1]["stdev"]] == pytest.approx([0.2, 0.05])
    assert log[-1]["mean_loss"] is not None


def test_gradient_descent_has_no_noise_whatever_the_recipe_says(tmp_path: Path) -> None:
    one = run(tmp_path / "a", searcher="grad", stdev_init=0.3, stdev_end=0.5, popsize=9)
    other = run(tmp_path / "b", searcher="grad", stdev_init=0.0, popsize=1)
    assert torch.equal(load_checkpoint(one)["center"], load_checkpoint(other)["center"])
    assert rows(one.parent)[-1]["stdev"] == 0
    assert load_checkpoint(one)["recipe"]["popsize"] == 1


# A seed decides a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("searcher", ["pgpe", "rgs"])
def test_a_seed_decides_everything(tmp_path: Path, searcher: str) -> None:
    found = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(len(found))  # nobody's business
        found.append(load_checkpoint(run(tmp_path / name, searcher=searcher, seed=seed)))
    assert_same(timeless(found[0]), timeless(found[1]))
    assert not torch.equal(found[0]["center"], found[2]["center"])
    first, second = ([timeless(row) for row in rows(tmp_path / name)] for name in "ab")
    assert first == second


def test_a_problem_object_gives_the_same_run_as_its_name(tmp_path: Path) -> None:
    named = load_checkpoint(run(tmp_path / "a", natural_weight=0.25, l1=1e-3))
    made = Blobs(seed=0, batch_size=8, natural_weight=0.25, l1=1e-3)
    changes = {k: v for k, v in options().items() if k != "batch_size"}
    for name in ("b", "c"):  # the second time the object has been used before
        given = load_checkpoint(train(made, out=tmp_path / name, generations=GENERATIONS, overrides=changes))
        assert torch.equal(named["center"], given["center"])
        assert given["recipe"] == named["recipe"]  # the object's own batch size, weights included
        assert given["problem"] == BLOBS


# What is kept -------------------------------------------------------------------------------------------------------


def numbered(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("checkpoint-*"))


def test_the_latest_checkpoints_are_kept_under_their_numbers(tmp_path: Path) -> None:
    checkpoint = run(tmp_path / "run", bookkeeping=Bookkeeping(save_every=0, keep=3))
    assert numbered(tmp_path / "run") == [f"checkpoint-{n:07}.pt" for n in (10, 11, 12)]
    for name in numbered(tmp_path / "run"):
        assert f"{load_checkpoint(tmp_path / 'run' / name)['generation']:07}" in name
    assert_same(load_checkpoint(checkpoint), load_checkpoint(tmp_path / "run" / "checkpoint-0000012.pt"))
    resume(tmp_path / "run", generations=14, bookkeeping=Bookkeeping(keep=1))  # the rest is as it was
    assert numbered(tmp_path / "run") == ["checkpoint-0000014.pt"]
    assert load_checkpoint(checkpoint)["bookkeeping"] == {"save_every": 0, "keep": 1, "log": []}
    run(tmp_path / "other")
    assert numbered(tmp_path / "other") == []


def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(os, "link", no_links)
    checkpoint = run(tmp_path / "run", bookkeeping=Bookkeeping(keep=1))
    assert (tmp_path / "run" / "checkpoint-0000012.pt").read_bytes() == checkpoint.read_bytes()
    assert not list(checkpoint.parent.glob(".*.tmp"))


@pytest.mark.parametrize("fields", [{"save_every": -1.0}, {"save_every": float("nan")}, {"keep": -1}])
def test_bookkeeping_that_makes_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(fields))} must be a number"):
        Bookkeeping(**fields)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and limits")
def test_a_disk_that_fills_up_costs_no_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk; the log outgrows it long after the checkpoint fits."""
    import resource

    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))
            train(Blobs, out=tmp_path / "run", generations=10_000, overrides=options(), bookkeeping=Bookkeeping(0.0))
        except CheckpointError as error:
            said = f"{tmp_path / 'run' / 'metrics.jsonl'}: the log could not be written"
            os._exit(7 if said in str(error) and f"--resume {tmp_path / 'run'}" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    lines = (tmp_path / "run" / "metrics.jsonl").read_bytes().split(b"\n")
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["generation"]
    assert 0 < saved <= len(lines) - 1
    with pytest.raises(TrainingInterrupted):
        resume(tmp_path / "run", progress=StopAfter(saved + 2))
    assert [row["generation"] for row in rows(tmp_path / "run")] == list(range(1, saved + 3))


# Trouble ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("searcher", ["pgpe", "rgs"])
def test_when_no_loss_is_finite_the_last_checkpoint_stays(tmp_path: Path, searcher: str) -> None:
    with pytest.raises(TrainingError, match="no member of generation 3 has a finite loss"):
        run(tmp_path / "run", problem=Doomed, searcher=searcher, bookkeeping=Bookkeeping(save_every=0))
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert saved["generation"] == 3
    assert bool(torch.isfinite(saved["center"]).all())
    assert [row["nonfinite"] for row in rows(tmp_path / "run")] == [0, 2, 0]


def test_a_run_that_fails_at_once_leaves_its_beginning(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        run(tmp_path / "run", problem=Doomed)
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert saved["generation"] == 0
    assert torch.equal(saved["center"], Doomed(seed=0).network.parameter_vector())


def test_a_log_ahead_of_its_checkpoint_is_cut_back(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        run(tmp_path / "run", problem=Doomed)
    assert [row["generation"] for row in rows(tmp_path / "run")] == [1, 2, 3]
    resume(tmp_path / "run", problem=BLOBS)  # from generation 0, and healthy
    assert [row["generation"] for row in rows(tmp_path / "run")] == list(range(1, GENERATIONS + 1))
    assert {row["nonfinite"] for row in rows(tmp_path / "run")} == {0}


def test_outside_the_main_thread_there_are_no_signals(tmp_path: Path) -> None:
    done: list[Path] = []
    thread = threading.Thread(target=lambda: done.append(run(tmp_path / "run")))
    thread.start()
    thread.join()
    assert done == [tmp_path / "run" / "checkpoint.pt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": NotAProblem}, "problem must be a name or a gls_es.CertifiedTrainingProblem"),
        ({"problem": 42}, "problem must be a name or a gls_es.CertifiedTrainingProblem"),
        ({"problem": "digits-cnn"}, "unknown problem 'digits-cnn'"),
        ({"searcher": "pgp"}, "unknown searcher 'pgp'"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"generations": 0}, "generations must be at least 1"),
        ({"eps": 2.0}, "eps must be between 0 and 1"),
        ({"method": "crwon"}, "did you mean 'crown'"),
        ({"generations": 1.5}, "generations must be a whole number"),
        ({"eps": "8:255"}, "eps must be one number between 0 and 1"),
        ({"seed": None}, "seed must be a whole number"),
        ({"device": "cuda:99"}, "finds no CUDA device"),
        ({"out": 3}, "out must be the path of a folder"),
        ({"overrides": 3}, "overrides must be a dict"),
        ({"bookkeeping": {}}, "bookkeeping must be a gls_es.training.Bookkeeping"),
        ({"actors": 2}, "actors must be a gls_es.training.Actors"),
        ({"progress": print}, "progress must be a gls_es.training.Progress"),
        ({"searcher": ["rgs"]}, "unknown searcher"),
        ({"overrides": {"popsize": 5}}, "popsize must be even"),
        ({"overrides": {"popsiez": 4}}, "did you mean 'popsize'"),
        ({"overrides": {"warmup_method": "ipb"}}, "did you mean 'ibp'"),
        ({"overrides": {"stand_in": "ipb"}}, "did you mean 'ibp'"),
        ({"overrides": {"stand_in": "ibp", "loss": "sabr"}}, "stand_in must be empty unless loss is 'robust'"),
        ({"problem": Blobs(), "overrides": {"batch_size": 4}}, "batch_size is settled by the problem object"),
    ],
)
def test_arguments_that_make_no_sense_leave_no_folder(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"problem": Blobs, "out": tmp_path / "run"} | arguments
    with pytest.raises(ConfigError, match=message):
        train(chosen.pop("problem"), chosen.pop("searcher", "pgpe"), **chosen)
    assert not (tmp_path / "run").exists()


def test_a_plan_writes_nothing_and_says_what_it_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = plan(Blobs, "rgs", generations=10, overrides={"popsize": 4, "batch_size": 5})
    assert found["evaluations"] == 10 * 4 * 5
    assert found["parameters"] == Blobs().solution_length
    assert plan(Blobs(batch_size=64), generations=10)["evaluations"] == 10 * 64 * 20  # there are only 20 images
    assert plan(Blobs, generations=100)["recipe"]["ramp_until"] == 50  # phases keep their share
    assert list(tmp_path.iterdir()) == []
