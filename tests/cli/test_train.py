"""gls-es train, in front of stand-ins for training."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from gls_es.cli import train as commands
from gls_es.errors import TrainingError
from gls_es.training import Actors, Bookkeeping
from gls_es.training.bookkeeping import LOGGERS
from gls_es.training.checkpoint import load_checkpoint

Run = Callable[..., Result]


def test_the_defaults_reach_training(run: Run, work: Any) -> None:
    assert run("train", "--problem", "digits-cnn3").exit_code == 0
    assert work.calls == [
        (
            "train",
            ("digits-cnn3", "pgpe"),
            {
                "out": None,
                "seed": 0,
                "eps": None,
                "method": None,
                "generations": None,
                "budget": None,
                "device": "cpu",
                "data_root": None,
                "overrides": {},
                "init": None,
                "tf32": False,
                "bookkeeping": Bookkeeping(),
                "actors": Actors(),
            },
        )
    ]


def test_every_option_reaches_training(run: Run, work: Any, tmp_path: Path) -> None:
    options = {"--searcher": "rgs", "--out": "r", "--seed": 3, "--eps": "8/255", "--method": "ibp", "--generations": 5}
    more = {"--device": "cuda:1", "--data": tmp_path, "--set": "popsize=8"}
    more |= {"--actors": 4, "--gpus-per-actor": 0.5, "--ray-address": "head:6379"}
    more |= {"--init": tmp_path / "w.pt", "--budget": "1.5m", "--save-every": 2.5, "--keep": 3, "--log": "csv"}
    (tmp_path / "w.pt").touch()
    flat = [part for pair in (options | more).items() for part in pair]
    assert run("train", "--problem", "p.py:C", *flat).exit_code == 0
    (_, args, kwargs) = work.calls[0]
    assert args == ("p.py:C", "rgs")
    budget = kwargs.pop("budget")
    assert budget == 90.0
    assert 0.0 < time.perf_counter() - budget.since < 60.0  # it counts from the command's beginning
    assert kwargs == {
        "out": Path("r"),
        "seed": 3,
        "eps": 8 / 255,
        "method": "ibp",
        "generations": 5,
        "device": "cuda:1",
        "data_root": tmp_path,
        "overrides": {"popsize": 8},
        "init": str(tmp_path / "w.pt"),
        "tf32": False,
        "actors": Actors(4, 0.5, "head:6379"),
        "bookkeeping": Bookkeeping(save_every=2.5, keep=3, log=("csv",)),
    }


@pytest.mark.parametrize(
    ("text", "arguments", "loss"),
    [
        ("", ["--loss", "sabr"], "sabr"),
        ('loss = "natural"', [], "natural"),
        ('loss = "natural"', ["--loss", "sabr"], "sabr"),
        ('loss = "natural"', ["--set", "loss=sabr"], "sabr"),
        ('[recipe]\nloss = "natural"', [], "natural"),
        ('[recipe]\nloss = "natural"', ["--loss", "sabr"], "sabr"),
        ("", ["--loss", "natural", "--set", "loss=sabr"], "sabr"),
    ],
)
def test_the_loss_comes_from_the_command_line_or_the_file(
    run: Run, work: Any, tmp_path: Path, text: str, arguments: list[str], loss: str
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    assert run("train", "--problem", "p", "--config", config, *arguments).exit_code == 0
    assert work.calls[0][2]["overrides"] == {"loss": loss}


def test_json_is_one_object_and_the_rest_goes_to_stderr(run: Run, work: Any) -> None:
    result = run("train", "--problem", "p", "--json")
    assert json.loads(result.stdout) == {
        "checkpoint": "runs/one/checkpoint.pt",
        "run": "runs/one",
        "generations": 3,
        "natural_accuracy": 0.5,  # of the row that had it
        "certified_accuracy": 0.25,
        "mean_loss": 2.0,
        "elapsed_seconds": 1.5,
    }
    assert result.stdout.count("\n") == 1
    assert "generation 3/3" in result.stderr
    assert "\x1b" not in result.output


def test_people_are_told_what_to_do_next(run: Run, work: Any) -> None:
    result = run("train", "--problem", "p")
    assert "gls-es certify runs/one/checkpoint.pt" in result.stderr
    assert result.stdout == ""


def test_quiet_has_no_progress(run: Run, work: Any) -> None:
    assert "generation" not in run("train", "--problem", "p", "--quiet").stderr
    assert run("train", "--problem", "p", "--quiet", "--json").stderr == ""


def test_resume(run: Run, work: Any, tmp_path: Path) -> None:
    result = run("train", "--resume", tmp_path, "--generations", 7, "--keep", 2, "--actors", 2, "--json")
    given = {"generations": 7, "data_root": None, "problem": None, "bookkeeping": Bookkeeping(keep=2)}
    given["actors"] = Actors(2)
    assert work.calls == [("resume", (tmp_path,), given)]
    assert json.loads(result.stdout)["generations"] == 7
    assert json.loads(result.stdout)["checkpoint"] == str(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(
    "other",
    [
        ["--searcher", "pgpe"],
        ["--seed", "0"],
        ["--eps", "0.1"],
        ["--out", "x"],
        ["--set", "popsize=2"],
        ["--device", "cpu"],
        ["--dry-run"],
        ["--config", os.devnull],
    ],
)
def test_resume_refuses_what_it_would_ignore(run: Run, work: Any, tmp_path: Path, other: list[str]) -> None:
    if other[0] == "--config":
        other[1] = str(tmp_path / "empty.toml")
        Path(other[1]).touch()
    result = run("train", "--resume", tmp_path, *other)
    assert result.exit_code == 2
    assert f"so {other[0]} does not go with it" in " ".join(result.stderr.split())
    assert not work.calls


def test_settings_of_the_environment_do_not_hinder_resuming(run: Run, work: Any, tmp_path: Path) -> None:
    assert run("train", "--resume", tmp_path, env={"GLS_ES_TRAIN_SEED": "3"}).exit_code == 0


def test_a_problem_or_a_run_is_needed(run: Run, work: Any) -> None:
    result = run("train")
    assert result.exit_code == 2
    assert "gls-es problems" in result.stderr


def test_dry_run_trains_nothing(run: Run, work: Any) -> None:
    result = run("train", "--problem", "p", "--dry-run", "--set", "popsize=8")
    assert [name for name, *_ in work.calls] == ["plan"]
    assert work.calls[0][2]["overrides"] == {"popsize": 8}
    assert ["recipe.lr", "0.1", "recipe"] in [line.split() for line in result.stdout.splitlines()]
    assert ["recipe.popsize", "4", "command", "line"] in [line.split() for line in result.stdout.splitlines()]


def test_dry_run_in_json(run: Run, work: Any) -> None:
    plan = json.loads(run("train", "--problem", "p", "--dry-run", "--json").stdout)
    sources = plan.pop("sources")
    assert plan == {"problem": "p", "recipe": {"popsize": 4, "lr": 0.1}, "out": "runs/one", "eta": None}
    assert sources == {
        "problem": "command line", "out": "default", "recipe.popsize": "recipe", "recipe.lr": "recipe",
    }  # fmt: skip


def test_a_plan_says_where_each_value_comes_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("keep = 2\n[recipe]\npopsize = 8\nl1 = 0.5\n")
    result = run(
        "train", "--problem", "tests.problem.toys:Blobs", "--config", tmp_path / "run.toml", "--set", "l1=0.25",
        "--dry-run", "--json", env={"GLS_ES_TRAIN_SEED": "7", "GLS_ES_TRAIN_GENERATIONS": "40"},
    )  # fmt: skip
    plan = json.loads(result.stdout)
    sources = plan["sources"]
    wanted = {
        "problem": ("tests.problem.toys:Blobs", "command line"),
        "seed": (7, "environment"),
        "keep": (2, "file"),
        "searcher": ("pgpe", "default"),
        "generations": (40, "environment"),
    }
    assert {name: (plan[name], sources[name]) for name in wanted} == wanted
    inner = {"popsize": (8, "file"), "l1": (0.25, "command line"), "generations": (40, "environment")}
    inner |= {"batch_size": (64, "recipe")}
    assert {name: (plan["recipe"][name], sources[f"recipe.{name}"]) for name in inner} == inner


def test_a_plan_names_the_source_of_the_loss_that_counts(run: Run) -> None:
    result = run(
        "train", "--problem", "tests.problem.toys:Blobs", "--set", "loss=sabr", "--dry-run", "--json",
        env={"GLS_ES_TRAIN_LOSS": "natural"},
    )  # fmt: skip
    plan = json.loads(result.stdout)
    assert (plan["recipe"]["loss"], plan["sources"]["recipe.loss"]) == ("sabr", "command line")


def test_the_settings_of_a_run_make_the_same_run_again(run: Run, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    given = ("--set", "popsize=4", "--set", "average_decay=0.9", "--eps", "1/30", "--seed", "5", "--keep", "1")
    problem = "tests.problem.toys:Blobs"
    made = run("train", "--problem", problem, "--generations", "7", "--log", "csv", *given, "--out", first)
    assert made.exit_code == 0, made.output
    made = run("train", "--config", first / "config.toml", "--out", again)
    assert made.exit_code == 0, made.output
    assert (first / "config.toml").read_text() == (again / "config.toml").read_text()
    one, other = (load_checkpoint(folder / "checkpoint.pt") for folder in (first, again))
    assert torch.equal(one["center"], other["center"])
    assert one["recipe"] == other["recipe"]
    assert one["eps"] == 1 / 30
    assert {path.name for path in first.iterdir()} == {path.name for path in again.iterdir()}


def test_an_interrupted_run_says_how_to_go_on(run: Run, work: Any) -> None:
    work.error = TrainingError("stopped after generation 3; go on with `gls-es train --resume runs/one`.")
    result = run("train", "--problem", "p")
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: stopped after generation 3; go on with `gls-es train --resume runs/one`.\n")


def test_libraries_are_told_to_be_quiet(run: Run, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVOTORCH_VERBOSE_LEVEL", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    run("train", "--problem", "p")
    assert os.environ["EVOTORCH_VERBOSE_LEVEL"] == "-1"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"  # who wants it keeps it


def test_the_names_of_loggers_are_those_of_training() -> None:
    assert commands.LOGGERS == LOGGERS
