"""Whole runs on a toy problem: what they leave, that a seed decides them, and that stopping changes nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gls_es.errors import CheckpointError, ConfigError, TrainingError
from gls_es.training import TrainingInterrupted, load_trained, loop, plan, resume, train
from gls_es.training.checkpoint import load_checkpoint, save_checkpoint
from gls_es.training.progress import NullProgress
from tests.problem.toys import Blobs, Doomed, NotAProblem, ScaledBlobs, WideBlobs, options

ROOT = Path(__file__).resolve().parents[2]
BLOBS = "tests.problem.toys:Blobs"
GENERATIONS = 12


class StopAfter(NullProgress):
    """Sends this process a signal at the end of a generation, as Ctrl-C does."""

    def __init__(self, generation: int, number: int = signal.SIGINT) -> None:
        self.generation, self.number = generation, number

    def update(self, row: Mapping[str, Any]) -> None:
        if row["generation"] == self.generation:
            signal.raise_signal(self.number)


class Recording(NullProgress):
    def __init__(self) -> None:
        self.plans: list[Mapping[str, Any]] = []
        self.rows: list[Mapping[str, Any]] = []
        self.summaries: list[Mapping[str, Any]] = []

    def start(self, plan: Mapping[str, Any]) -> None:
        self.plans.append(plan)

    def update(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.summaries.append(summary)


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(table: Any) -> Any:
    """Without what two equal runs differ in."""
    if isinstance(table, dict):
        return {key: timeless(value) for key, value in table.items() if key not in ("elapsed_seconds", "digest")}
    return table


def assert_same(one: Any, other: Any, where: str = "checkpoint") -> None:
    """Equal to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def run(out: Path, *, searcher: str = "pgpe", problem: Any = BLOBS, seed: int = 0, **changes: Any) -> Path:
    more = {name: changes.pop(name) for name in ("progress", "eps", "method") if name in changes}
    return train(
        problem, searcher, out=out, seed=seed, generations=GENERATIONS,
        overrides=options(**changes), **more,
    )  # fmt: skip


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
    assert progress.plans == [plan(BLOBS, eps=0.05, method="ibp", generations=GENERATIONS, overrides=options())]
    assert [dict(row) for row in progress.rows] == [row | {"eta_seconds": e["eta_seconds"]} for row, e in zip(log, progress.rows, strict=True)]  # fmt: skip # noqa: E501
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


# Stopping and going on ----------------------------------------------------------------------------------------------


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


def edited(run: Path, **changes: Any) -> Path:
    """The run with other things in its checkpoint."""
    content = load_checkpoint(run / "checkpoint.pt") | changes
    save_checkpoint(run / "checkpoint.pt", {k: v for k, v in content.items() if v is not None})
    return run


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


# Trouble ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("searcher", ["pgpe", "rgs"])
def test_when_no_loss_is_finite_the_last_checkpoint_stays(
    tmp_path: Path, searcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    with pytest.raises(TrainingError, match="no member of generation 3 has a finite loss"):
        run(tmp_path / "run", problem=Doomed, searcher=searcher)
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
        ({"overrides": {"popsize": 5}}, "popsize must be even"),
        ({"overrides": {"popsiez": 4}}, "did you mean 'popsize'"),
        ({"overrides": {"warmup_method": "ipb"}}, "did you mean 'ibp'"),
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


# From a checkpoint to a network -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["class", "name", "object"])
def test_a_problem_with_an_argument_of_its_own_trains_and_comes_back(tmp_path: Path, given: str) -> None:
    problem = {"class": WideBlobs, "name": "tests.problem.toys:WideBlobs", "object": WideBlobs(9, seed=1)}[given]
    checkpoint = train(problem, out=tmp_path / "run", generations=6)
    trained = load_trained(checkpoint)
    width = 9 if given == "object" else 5
    assert trained.problem.width == width
    assert trained.network.num_parameters == 4 * width + width + width * 3 + 3
    assert torch.equal(trained.network.parameter_vector(), trained.content["center"])
    assert trained.problem_name == "tests.problem.toys:WideBlobs"
    assert trained.content["recipe"]["popsize"] == 6  # the class' own recipe
    assert trained.content["recipe"]["ramp_until"] == 3  # for 6 generations instead of 40
    assert torch.equal(load_checkpoint(resume(tmp_path / "run"))["center"], trained.content["center"])


def test_a_trained_network_computes_what_was_trained(tmp_path: Path) -> None:
    made = ScaledBlobs(seed=2)
    checkpoint = train(made, out=tmp_path / "run", generations=4, overrides={"popsize": 4})
    trained = load_trained(checkpoint)
    images, _ = trained.dataset().test.batch()
    wanted = made.network.logits(images, trained.content["center"][None])
    assert torch.equal(trained.network.logits(images), wanted)
    assert (trained.eps, trained.method) == (made.eps, made.method)


def test_buffers_are_the_checkpoints(tmp_path: Path) -> None:
    """Normalisation as it was in training, whatever the problem's code says now."""
    train(ScaledBlobs, out=tmp_path / "run", generations=2, overrides={"popsize": 4})
    buffers = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["buffers"]
    (name,) = (name for name in buffers if name.endswith("mean"))
    buffers[name] = buffers[name] + 0.3
    trained = load_trained(edited(tmp_path / "run", buffers=buffers) / "checkpoint.pt")
    images, _ = trained.dataset().test.batch()
    assert torch.allclose(trained.network.logits(images)[0], trained.network.module()(images), atol=1e-5)
    fresh = ScaledBlobs().network.module(trained.content["center"])
    assert torch.allclose(trained.network.logits(images)[0], fresh(images - 0.3), atol=1e-5)


def test_a_network_trained_on_another_device_loads_on_the_cpu(tmp_path: Path) -> None:
    run(tmp_path / "run")
    arguments = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["problem_args"] | {"device": "cuda:77"}
    trained = load_trained(edited(tmp_path / "run", problem_args=arguments) / "checkpoint.pt")
    assert str(trained.problem.device) == "cpu"


def test_code_in_a_file_runs_only_if_the_user_names_the_file(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text("from tests.problem.toys import Blobs\nclass Mine(Blobs):\n    eps = 0.2\n")
    name = f"{source}:Mine"
    checkpoint = run(tmp_path / "run", problem=name)
    source.write_text("raise SystemExit('executed')\n")
    sys.modules.pop(next(m for m in sys.modules if m.startswith("gls_es_problem_mine")))
    for use in (lambda: load_trained(checkpoint), lambda: resume(tmp_path / "run")):
        with pytest.raises(CheckpointError, match=f"if you trust that file, name it: --problem {name}"):
            use()
    source.write_text("from tests.problem.toys import Blobs\nclass Mine(Blobs):\n    eps = 0.2\n")
    assert load_trained(checkpoint, problem=name).eps == 0.2
    assert resume(tmp_path / "run", problem=name) == checkpoint


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"center": torch.zeros(3)}, CheckpointError, "holds 3 weights, but problem .* now has a network of 51"),
        ({"buffers": None, "eps": None}, CheckpointError, r"not the checkpoint of a training run .*eps, buffers"),
        ({"buffers": {"mean": torch.zeros(1)}}, ConfigError, "the network has no buffer 'mean'"),
        ({"problem": "gone"}, ConfigError, "unknown problem 'gone'"),
        ({"problem_args": {"width": 2}}, ConfigError, "Blobs cannot be rebuilt"),
    ],
)
def test_checkpoints_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    run(tmp_path / "run")
    with pytest.raises(error, match=message):
        load_trained(edited(tmp_path / "run", **changes) / "checkpoint.pt")
