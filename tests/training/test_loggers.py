"""Where metrics go: what is written is read back, or recorded by stand-ins for the services."""

import csv
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gls_es import RGS
from gls_es.errors import ConfigError, TrainingError
from gls_es.training import Bookkeeping, TrainingInterrupted, plan, resume
from gls_es.training.bookkeeping import LOGGERS
from gls_es.training.loggers import CsvLogger, Feed, MetricsLogger, TensorBoardLogger, numbers
from tests.problem.toys import Blobs

from .running import BLOBS, GENERATIONS, Recording, StopAfter, rows, run

KILLED_AT = 5


def half_lost(folder: Path, log: str, **more: Any) -> None:
    """A run that was killed at generation 7, two generations after its checkpoint; its loggers had seen all seven."""
    with pytest.raises(TrainingInterrupted):
        run(folder, bookkeeping=Bookkeeping(save_every=0, keep=3, log=(log,)), progress=StopAfter(7), **more)
    (folder / f"checkpoint-{KILLED_AT:07}.pt").replace(folder / "checkpoint.pt")


# CSV ----------------------------------------------------------------------------------------------------------------


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_as_json(folder: Path) -> None:
    found, wanted = table(folder), rows(folder)
    assert [int(row["generation"]) for row in found] == list(range(1, GENERATIONS + 1))
    for row, line in zip(found, wanted, strict=True):
        assert {key: text for key, text in row.items() if text} == {
            key: str(value) for key, value in flat(line).items() if value is not None
        }


def flat(line: dict[str, Any]) -> dict[str, Any]:
    """The numbers of groups of parameters by dotted names."""
    noise = line.pop("noise", {})
    return line | {f"noise.{group}.{key}": v for group, values in noise.items() for key, v in values.items()}


def test_csv_says_what_json_says(tmp_path: Path) -> None:
    run(tmp_path / "run", bookkeeping=Bookkeeping(log=("csv",)))
    assert_same_as_json(tmp_path / "run")
    assert "certified_accuracy" in table(tmp_path / "run")[0]  # though it came later


def test_csv_after_a_kill(tmp_path: Path) -> None:
    half_lost(tmp_path / "run", "csv")
    assert len(table(tmp_path / "run")) == 7
    resume(tmp_path / "run")
    assert_same_as_json(tmp_path / "run")


def test_a_log_that_begins_on_resuming_has_the_whole_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "run", progress=StopAfter(4))
    resume(tmp_path / "run", bookkeeping=Bookkeeping(log=("csv", "tensorboard")))
    assert_same_as_json(tmp_path / "run")
    assert [step for step, _ in events(tmp_path / "run")["mean_loss"]] == list(range(1, GENERATIONS + 1))


# TensorBoard --------------------------------------------------------------------------------------------------------


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of the event files, by tag, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=True)
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def assert_events_match(folder: Path) -> None:
    found, wanted = events(folder), rows(folder)
    for tag in ("mean_loss", "lr", "stdev", "certified_accuracy", "eps"):
        lines = [(row["generation"], row[tag]) for row in wanted if tag in row]
        assert [step for step, _ in found[tag]] == [step for step, _ in lines]
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in lines], rel=1e-6)  # float32
    assert not found.keys() & {"method", "generation", "generations"}


def test_tensorboard_events_are_read_back(tmp_path: Path) -> None:
    run(tmp_path / "run", bookkeeping=Bookkeeping(log=("tensorboard",)))
    assert_events_match(tmp_path / "run")


def test_tensorboard_after_a_kill_has_no_step_twice(tmp_path: Path) -> None:
    half_lost(tmp_path / "run", "tensorboard")
    assert len(events(tmp_path / "run")["mean_loss"]) == 7
    resume(tmp_path / "run")
    assert_events_match(tmp_path / "run")


# Services, by stand-ins ---------------------------------------------------------------------------------------------


@dataclass
class Service:
    """What a tracking server holds, and the calls it got; ``fails`` lets them fail."""

    runs: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    fails: tuple[str, ...] = ()

    def called(self, name: str, details: Any = None) -> None:
        self.calls.append((name, details))
        if name in self.fails:
            raise ConnectionError("no server")

    def add(self, run: str, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.runs[run].setdefault(name, []).append((step, value))

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class FakeWandb:
    """wandb: steps must not go back; a run that is there goes on after its last one."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def init(self, **options: Any) -> Any:
        self.service.called("init", options)
        service, name = self.service, options["id"]
        steps = [step for points in service.runs.setdefault(name, {}).values() for step, _ in points]

        def log(values: dict[str, float], *, step: int) -> None:
            service.called("log", step)
            assert step >= run.step, "wandb drops steps that are over"
            service.add(name, step, values)
            run.step = step + 1

        def finish() -> None:
            service.called("finish")

        run = SimpleNamespace(step=max(steps, default=-1) + 1, log=log, finish=finish)
        return run


class FakeMlflow:
    """mlflow: keeps every value it gets, also a second one for a step."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.entities = SimpleNamespace(Metric=lambda *parts: parts)

    def MlflowClient(self) -> Any:
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        self.service.called("get_experiment_by_name", name)
        return SimpleNamespace(experiment_id="1") if self.service.runs else None

    def create_experiment(self, name: str) -> str:
        self.service.called("create_experiment", name)
        return "1"

    def create_run(self, experiment_id: str, *, run_name: str) -> Any:
        self.service.called("create_run", run_name)
        assert experiment_id == "1"
        self.service.runs["abc"] = {}
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    def log_param(self, run_id: str, key: str, value: str) -> None:
        self.service.called("log_param", (key, value))

    def update_run(self, run_id: str, *, status: str) -> None:
        self.service.called("update_run", status)

    def get_metric_history(self, run_id: str, name: str) -> list[Any]:
        return [SimpleNamespace(step=step) for step, _ in self.service.runs[run_id].get(name, [])]

    def log_batch(self, run_id: str, *, metrics: list[Any]) -> None:
        self.service.called("log", metrics[0][3])
        for name, value, _, step in metrics:
            self.service.add(run_id, step, {name: value})

    def set_terminated(self, run_id: str) -> None:
        self.service.called("finish")


@pytest.fixture(params=["wandb", "mlflow"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A service and the name it is logged to by."""
    found = Service()
    fake = {"wandb": FakeWandb, "mlflow": FakeMlflow}[request.param](found)
    monkeypatch.setitem(sys.modules, request.param, fake)  # type: ignore[arg-type]
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return SimpleNamespace(name=request.param, held=found)


def assert_service_match(held: Service, folder: Path) -> None:
    (metrics,) = held.runs.values()
    for name in ("mean_loss", "natural_accuracy", "elapsed_seconds"):
        wanted = [(row["generation"], row[name]) for row in rows(folder) if name in row]
        if name == "elapsed_seconds":  # of generations that were repeated, the first time is kept
            assert [step for step, _ in metrics[name]] == [step for step, _ in wanted]
        else:
            assert metrics[name] == wanted
    assert not metrics.keys() & {"method", "generation", "generations"}


def test_a_service_gets_settings_and_rows(tmp_path: Path, service: Any) -> None:
    run(tmp_path / "run", bookkeeping=Bookkeeping(log=(service.name,)), seed=3)
    assert_service_match(service.held, tmp_path / "run")
    assert service.held.names()[-1] == "finish"
    if service.name == "wandb":
        options = service.held.calls[0][1]
        assert (options["project"], options["name"], options["resume"]) == ("gls-es", "run", "allow")
        assert options["dir"] == str(tmp_path / "run")
        assert (options["config"]["seed"], options["config"]["recipe"]["popsize"]) == (3, 6)
    else:
        assert ("create_experiment", "gls-es") in service.held.calls
        assert ("create_run", "run") in service.held.calls
        assert {("log_param", ("seed", "3")), ("log_param", ("recipe.popsize", "6"))} <= set(service.held.calls)


def test_a_service_after_a_kill_has_no_step_twice(tmp_path: Path, service: Any) -> None:
    half_lost(tmp_path / "run", service.name)
    resume(tmp_path / "run")
    assert_service_match(service.held, tmp_path / "run")
    assert len(service.held.runs) == 1
    identity = json.loads((tmp_path / "run" / "tracking.json").read_text())
    assert list(service.held.runs) == [identity[service.name]]


def test_a_service_that_is_behind_gets_what_it_missed(tmp_path: Path, service: Any) -> None:
    half_lost(tmp_path / "run", service.name)
    for points in next(iter(service.held.runs.values())).values():
        points[:] = [point for point in points if point[0] <= 3]  # the server had not stored the others
    resume(tmp_path / "run")
    (metrics,) = service.held.runs.values()
    assert [step for step, _ in metrics["mean_loss"]] == list(range(1, GENERATIONS + 1))


def test_a_service_that_fails_costs_no_training(tmp_path: Path, service: Any) -> None:
    class Noting(Recording):
        def note(self, text: str) -> None:
            notes.append(text)

    notes: list[str] = []
    service.held.fails = ("log",)
    run(tmp_path / "run", bookkeeping=Bookkeeping(log=(service.name, "csv")), progress=Noting())
    assert notes == [f"--log {service.name} failed (ConnectionError: no server); training goes on without it."]
    assert service.held.names().count("log") == 1
    assert_same_as_json(tmp_path / "run")


def test_a_service_that_cannot_begin_stops_the_run_before_it_begins(tmp_path: Path, service: Any) -> None:
    service.held.fails = ("init", "create_run")
    with pytest.raises(TrainingError, match=f"--log {service.name} could not begin .ConnectionError: no server"):
        run(tmp_path / "run", bookkeeping=Bookkeeping(log=(service.name,)))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


# What is asked for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LOGGERS if name != "csv"])
def test_a_missing_package_says_how_to_install_it(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    with pytest.raises(ConfigError, match=rf'--log {name} needs the package {name}.*pip install "gls-es\[{name}\]"'):
        run(tmp_path / "run", bookkeeping=Bookkeeping(log=(name,)))
    assert not (tmp_path / "run").exists()


def test_loggers_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="log must name some of csv, tensorboard, wandb, mlflow, not 'tb'"):
        Bookkeeping(log=("csv", "tb"))
    assert Bookkeeping(log=("csv", "csv")).log == ("csv",)


def test_by_default_nothing_else_is_written_or_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "mlflow", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    run(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        ".lock", "checkpoint.pt", "config.toml", "metrics.jsonl",
    }  # fmt: skip
    assert plan(BLOBS)["log"] == []


def test_they_are_loggers_of_evotorch_too(tmp_path: Path) -> None:
    searcher = RGS(Blobs(), popsize=2, center_learning_rate=0.01, stdev_init=0.02)
    CsvLogger(searcher, tmp_path / "metrics.csv")
    board = TensorBoardLogger(searcher, tmp_path / "tensorboard")
    searcher.run(3)
    board.close()
    assert [row["iter"] for row in table(tmp_path)] == ["1", "2", "3"]
    losses = events(tmp_path)["mean_eval"]
    assert [step for step, _ in losses] == [1, 2, 3]
    assert [value for _, value in losses] == pytest.approx([float(row["mean_eval"]) for row in table(tmp_path)])


def test_only_finite_numbers_are_numbers() -> None:
    status = {"generation": 3, "a": 1, "b": 0.5, "c": True, "d": None, "e": "x", "f": float("nan"), "g": float("inf")}
    assert numbers(status) == {"a": 1, "b": 0.5}

    class Seen(MetricsLogger):
        def write(self, step: int, values: dict[str, Any]) -> None:
            seen.append((step, values))

    seen: list[Any] = []
    feed = Feed()
    logger = Seen(feed)
    logger.last = 2
    for generation in (1, 2, 3):
        for hook in feed.log_hook:
            hook({"generation": generation, "a": 1.0})
    assert seen == [(3, {"a": 1.0})]
