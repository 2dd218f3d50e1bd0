"""Stopping a run, or killing it, and going on changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gls_es.errors import CheckpointError, ConfigError
from gls_es.training import TrainingInterrupted, resume
from gls_es.training.checkpoint import load_checkpoint

from .running import BLOBS, GENERATIONS, ROOT, Recording, StopAfter, assert_same, edited, rows, run, timeless


@pytest.mark.parametrize(
    ("searcher", "optimizer", "changes"),
    [
        ("pgpe", "adam", {}),
        ("pgpe", "clipup", {"stdev_learning_rate": 0.1}),
        ("pgpe", "sgd", {"fitness": "ranks"}),
        ("rgs", "adam", {"stdev_end": 0.5}),
        ("rgs", "clipup", {}),
        ("grad", "adam", {"natural_weight": 0.5}),
        ("grad", "clipup", {}),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path, searcher: str, optimizer: str, changes: dict[str, Any]
) -> None:
    straight = run(tmp_path / "straight", searcher=searcher, optimizer=optimizer, **changes)
    broken = tmp_path / "broken"
    with pytest.raises(TrainingInterrupted, match=f"stopped at generation 5 of 12.*--resume {broken}`"):
        run(broken, searcher=searcher, optimizer=optimizer, progress=StopAfter(5), **changes)
    assert load_checkpoint(broken / "checkpoint.pt")["generation"] == 5
    assert [row["generation"] for row in rows(broken)] == [1, 2, 3, 4, 5]
    with pytest.raises(TrainingInterrupted, match="stopped at generation 6 of 12"):
        resume(broken, progress=StopAfter(6, signal.SIGTERM))
    again = resume(broken)
    assert_same(timeless(load_checkpoint(straight)), timeless(load_checkpoint(again)))
    assert [timeless(row) for row in rows(straight.parent)] == [timeless(row) for row in rows(broken)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight", searcher="pgpe")
    code = f"""
import time
from gls_es.training import loop, train
from gls_es.training.progress import NullProgress
from tests.problem.toys import options
loop.SAVE_SECONDS = 0.3
class Slow(NullProgress):
    def update(self, row):
        time.sleep(0.1)
train({BLOBS!r}, out={str(tmp_path / "killed")!r}, generations={GENERATIONS}, overrides=options(), progress=Slow())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    log = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= 7:
            break
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    saved = load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["generation"]
    assert 0 < saved < GENERATIONS
    assert len(rows(tmp_path / "killed")) >= saved  # some are ahead of the checkpoint
    again = resume(tmp_path / "killed")
    assert_same(timeless(load_checkpoint(straight)), timeless(load_checkpoint(again)))
    assert [timeless(row) for row in rows(straight.parent)] == [timeless(row) for row in rows(tmp_path / "killed")]


def test_ctrl_c_on_the_command_line_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "gls_es", "train", "--problem", BLOBS, "--generations", "1000000",
            "--out", str(tmp_path / "run"), "--set", "popsize=6", "--json",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    log = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not (log.exists() and log.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"gls-es train --resume {tmp_path / 'run'}" in "".join(stderr.split("\n"))
    assert "Traceback" not in stderr
    assert "stopped at generation" in json.loads(stdout)["error"]
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert saved["generation"] == len(rows(tmp_path / "run")) > 0


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    checkpoint = run(tmp_path / "run")
    before, progress = load_checkpoint(checkpoint), Recording()
    assert resume(tmp_path / "run", progress=progress) == checkpoint
    assert_same(timeless(before), timeless(load_checkpoint(checkpoint)))
    assert progress.summaries[0]["certified_accuracy"] == before["history"]["certified_accuracy"]
    assert len(rows(tmp_path / "run")) == GENERATIONS


def test_a_run_can_be_made_longer_but_not_shorter(tmp_path: Path) -> None:
    run(tmp_path / "run")
    resume(tmp_path / "run", generations=GENERATIONS + 4)
    assert [row["generation"] for row in rows(tmp_path / "run")] == list(range(1, GENERATIONS + 5))
    with pytest.raises(ConfigError, match="has 16 generations already, not 10"):
        resume(tmp_path / "run", generations=10)
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["generation"] == GENERATIONS + 4


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"searcher_state": None}, CheckpointError, "holds weights only"),
        ({"data_digest": "0" * 64}, CheckpointError, "the data are not those the run began with"),
        ({"problem_args": {"widht": 3}}, ConfigError, "Blobs cannot be rebuilt"),
        ({"problem_args": {"device": "cuda:77"}}, ConfigError, "finds no CUDA device"),
        ({"recipe": {"generation": 3}}, ConfigError, "unknown key 'generation'; did you mean 'generations'"),
        ({"problem": "tests.problem.toys:Gone"}, ConfigError, "has no 'Gone'"),
    ],
)
def test_runs_that_cannot_go_on(tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    if "device" in changes.get("problem_args", {}) and torch.cuda.is_available():
        pytest.skip("about machines without CUDA")
    run(tmp_path / "run")
    with pytest.raises(error, match=message):
        resume(edited(tmp_path / "run", **changes))
