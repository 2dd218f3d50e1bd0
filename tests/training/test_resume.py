"""Stopping a run, or killing it, and going on changes nothing."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gls_es.errors import CheckpointError, ConfigError
from gls_es.problem.recipe import OPTIMIZERS
from gls_es.training import Bookkeeping, TrainingInterrupted, resume, train
from gls_es.training.checkpoint import load_checkpoint
from gls_es.training.progress import PlainProgress
from tests.problem.toys import options

from .running import BLOBS, GENERATIONS, ROOT, Recording, StopAfter, assert_same, edited, rows, run, timeless

ENDLESS = 1_000_000


SIGMAS = {
    "fixed": {},
    "scheduled": {"stdev_end": 0.5},
    "learned": {"stdev_learning_rate": 0.1},
}
EVERYTHING = [
    (searcher, optimizer, sigma)
    for searcher, sigmas in (("pgpe", SIGMAS), ("rgs", ("fixed", "scheduled")), ("grad", ("fixed",)))
    for optimizer in OPTIMIZERS
    for sigma in sigmas
]
MORE = {
    "adam": {"natural_weight": 0.5, "average_decay": 0.5},
    "clipup": {"average_decay": 1.0, "average_from": 3, "stand_in": "ibp", "exact_images": 2, "candidates": 2},
    "sgd": {"fitness": "ranks", "average_decay": 0.9, "average_from": 5},
}


@pytest.mark.parametrize(("searcher", "optimizer", "sigma"), EVERYTHING)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, searcher: str, optimizer: str, sigma: str) -> None:
    changes = SIGMAS[sigma] | MORE.get(optimizer, {})
    handler = signal.getsignal(signal.SIGINT)
    straight = run(tmp_path / "straight", searcher=searcher, optimizer=optimizer, **changes)
    broken = tmp_path / "broken"
    with pytest.raises(TrainingInterrupted, match=f"stopped at generation 5 of 12.*--resume {broken}`"):
        run(broken, searcher=searcher, optimizer=optimizer, progress=StopAfter(5), **changes)
    saved = load_checkpoint(broken / "checkpoint.pt")
    assert (saved["generation"], saved["averaged"]) == (5, 5 - changes.get("average_from", 0))
    assert [row["generation"] for row in rows(broken)] == [1, 2, 3, 4, 5]
    with pytest.raises(TrainingInterrupted, match="stopped at generation 6 of 12"):
        resume(broken, progress=StopAfter(6, signal.SIGTERM))
    again = resume(broken)
    assert_same(timeless(load_checkpoint(straight)), timeless(load_checkpoint(again)))
    assert [timeless(row) for row in rows(straight.parent)] == [timeless(row) for row in rows(broken)]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("searcher", ["pgpe", "rgs", "grad"])
def test_every_checkpoint_of_a_run_leads_to_the_same_end(tmp_path: Path, searcher: str) -> None:
    """Also the one before the first generation; with BatchNorm, whose statistics are state, too."""
    every = Bookkeeping(save_every=0, keep=GENERATIONS + 1)
    problem = "tests.problem.normed:NormedBlobs"
    straight = run(tmp_path / "run", searcher=searcher, problem=problem, average_decay=0.9, bookkeeping=every)
    end = timeless(load_checkpoint(straight))
    for generation in (0, 1, 7, GENERATIONS):
        again = tmp_path / f"from {generation}"
        again.mkdir()
        shutil.copy(straight.parent / "config.toml", again)
        shutil.copy(straight.parent / f"checkpoint-{generation:07}.pt", again / "checkpoint.pt")
        assert_same(end, timeless(load_checkpoint(resume(again))))


KILLED = f"""
    import os, random, shutil, signal, sys, time
    from pathlib import Path
    from gls_es.training import Bookkeeping, resume, train
    from gls_es.training.checkpoint import load_checkpoint
    from tests.problem.toys import options

    often, run, rng = Bookkeeping(save_every=0, keep=2), Path(sys.argv[1]), random.Random(0)
    changes = options(optimizer="adam", average_decay=0.9, stdev_learning_rate=0.1, evaluate_every=3)

    def go_on():
        if (run / "checkpoint.pt").exists():
            resume(run)
        else:
            shutil.rmtree(run, ignore_errors=True)  # killed before there was anything to save
            train({BLOBS!r}, out=run, generations={ENDLESS}, overrides=changes, bookkeeping=often)

    train({BLOBS!r}, out=run.with_name("first"), generations=1, overrides=changes)  # loads what is loaded when needed
    began = time.monotonic()
    train({BLOBS!r}, out=run.with_name("second"), generations=10, overrides=changes, bookkeeping=often)
    longest = 2 * (time.monotonic() - began)
    ahead = leftovers = unborn = last = 0
    for attempt in range(50):
        child = os.fork()  # everything is imported once, for all
        if child == 0:
            go_on()
            os._exit(3)
        time.sleep(rng.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the child ended by itself"
        if not (run / "checkpoint.pt").exists():
            assert last == 0
            unborn += 1
            continue
        saved = load_checkpoint(run / "checkpoint.pt")["generation"]  # never unreadable
        assert saved >= last, "work was lost that had been saved"
        last = saved
        leftovers += len(list(run.glob(".*.tmp")))
        log = (run / "metrics.jsonl").read_bytes()
        whole = log.count(b"\\n")
        assert whole >= saved, "the log is behind its checkpoint"
        assert whole <= saved + 1, "more than one generation was lost"
        ahead += whole > saved
    print(last, ahead, leftovers, unborn, longest)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    """A run that saves after every generation, killed at random moments, is the run that was never killed."""
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KILLED), str(killed)],
        cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "EVOTORCH_VERBOSE_LEVEL": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last, ahead, leftovers = map(int, done.stdout.split()[:3])
    assert last >= 50
    assert ahead + leftovers > 0  # some of the kills did hit a generation between its line and its checkpoint
    end = last + 5
    with pytest.raises(TrainingInterrupted, match=f"generation {end} of {ENDLESS}"):
        resume(killed, progress=StopAfter(end))
    with pytest.raises(TrainingInterrupted):
        train(
            BLOBS, out=straight, generations=ENDLESS, progress=StopAfter(end),
            overrides=options(optimizer="adam", average_decay=0.9, stdev_learning_rate=0.1, evaluate_every=3),
            bookkeeping=Bookkeeping(keep=2, save_every=1e9),
        )  # fmt: skip
    one, other = (timeless(load_checkpoint(run / "checkpoint.pt")) for run in (killed, straight))
    assert_same(one, other | {"bookkeeping": one["bookkeeping"]})
    assert [timeless(row) for row in rows(killed)] == [timeless(row) for row in rows(straight)]
    assert len(list(killed.glob("checkpoint-*.pt"))) == 2
    assert not list(killed.glob(".*.tmp"))


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


def test_a_second_ctrl_c_breaks_a_long_generation_off(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "gls_es", "train", "--problem", "tests.problem.toys:Endless", "--generations", "5",
            "--out", str(tmp_path / "run"), "--json",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    lines: list[str] = []
    for said in ("asleep", "a second signal stops at once"):
        while said not in (line := process.stderr.readline()):
            assert line, lines  # it ended
            lines.append(line)
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)  # the generation takes longer
    assert any("generation 1/5 has begun" in line for line in lines)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    error = json.loads(stdout)["error"]
    way_on = f"`gls-es train --resume {tmp_path / 'run'}`"
    assert error == f"stopped at once, in generation 1; 0 are saved, go on with {way_on}."
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["generation"] == 0


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    checkpoint = run(tmp_path / "run")
    before, progress = load_checkpoint(checkpoint), Recording()
    assert resume(tmp_path / "run", progress=progress) == checkpoint
    assert_same(timeless(before), timeless(load_checkpoint(checkpoint)))
    assert progress.summaries[0]["certified_accuracy"] == before["history"]["certified_accuracy"]
    assert progress.summaries[0]["generations"] == GENERATIONS
    assert progress.summaries[0]["elapsed_seconds"] == pytest.approx(before["elapsed_seconds"], abs=1e-3)
    assert len(rows(tmp_path / "run")) == GENERATIONS
    told = io.StringIO()
    resume(tmp_path / "run", progress=PlainProgress(told))
    lines = told.getvalue().splitlines()
    assert lines[1].startswith(
        f"already at its end ({GENERATIONS} of {GENERATIONS} generations); a larger --generations"
    )
    assert lines[2].startswith(f"already trained: {GENERATIONS} generations, natural accuracy")


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
        ({"problem_args": {"widht": 3}}, CheckpointError, "Blobs cannot be rebuilt"),
        ({"problem_args": {"device": "cuda:77"}}, ConfigError, "finds no CUDA device"),
        ({"recipe": {"generation": 3}}, CheckpointError, "unknown key 'generation'; did you mean 'generations'"),
        ({"problem": "tests.problem.toys:Gone"}, CheckpointError, "has no 'Gone'"),
    ],
)
def test_runs_that_cannot_go_on(tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    if "device" in changes.get("problem_args", {}) and torch.cuda.is_available():
        pytest.skip("about machines without CUDA")
    run(tmp_path / "run")
    with pytest.raises(error, match=message):
        resume(edited(tmp_path / "run", **changes))
