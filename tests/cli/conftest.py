"""The command line run in this process, and stand-ins for the work behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from gls_es.bounds import Perturbation
from gls_es.cli.app import app
from gls_es.data import Dataset, load_digits
from gls_es.network import Network


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``run("certify", path, "--json")``: the result of the command line, with stdout and stderr apart."""
    monkeypatch.delenv("COLUMNS", raising=False)  # set by pytest-xdist
    runner = CliRunner()
    return lambda *arguments, **extra: runner.invoke(app, [str(argument) for argument in arguments], **extra)


@dataclass
class Work:
    """Stand-ins for training, which take their arguments down."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    error: BaseException | None = None

    def train(self, *args: Any, progress: Any, **kwargs: Any) -> Path:
        self.calls.append(("train", args, kwargs))
        progress.start({"problem": args[0], "popsize": 4})
        for generation in (1, 2, 3):
            row = {"generation": generation, "generations": 3, "eps": 0.1, "mean_loss": 2.0, "eta_seconds": 1.0}
            progress.update(row | ({"natural_accuracy": 0.5} if generation == 2 else {}))
        if self.error is not None:
            raise self.error
        progress.finish({"generations": 3, "certified_accuracy": 0.25, "elapsed_seconds": 1.5})
        return Path("runs/one/checkpoint.pt")

    def resume(self, *args: Any, progress: Any, **kwargs: Any) -> Path:
        self.calls.append(("resume", args, kwargs))
        progress.update({"generation": 7, "generations": 7})
        return Path(args[0]) / "checkpoint.pt"

    def plan(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.calls.append(("plan", args, kwargs))
        return {"problem": args[0], "recipe": {"popsize": 4, "lr": 0.1}, "out": Path("runs/one"), "eta": float("nan")}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Training replaced by a :class:`Work`, whatever the problem is called."""
    work = Work()
    monkeypatch.setattr("gls_es.problem.registry.check_name", lambda _name: None)
    for name in ("train", "resume", "plan"):
        where = "gls_es.benchmark.timed_plan" if name == "plan" else f"gls_es.training.{name}"
        monkeypatch.setattr(where, getattr(work, name), raising=False)
    return work


@dataclass
class Trained:
    """What ``load_trained`` gives: here a linear network on the digits."""

    network: Network
    problem_name: str = "digits-linear"
    eps: float = 0.01
    problem: Any = field(default_factory=lambda: SimpleNamespace(perturbation=Perturbation()))
    method: str = "crown"
    digest: str = "0" * 64
    roots: list[Any] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)

    def dataset(self, data_root: Any) -> Dataset:
        self.roots.append(data_root)
        return load_digits()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    """``load_trained`` replaced: any existing file is a checkpoint of a linear network that separates some digits."""
    dataset = load_digits()
    x, y = dataset.train.batch(slice(0, 400), dtype=torch.float64)
    x = x.flatten(1)
    target = nn.functional.one_hot(y, dataset.num_classes).double() * 2 - 1
    weights = torch.linalg.solve(x.T @ x + 5.0 * torch.eye(x.shape[1], dtype=x.dtype), x.T @ target)  # ridge regression
    linear = nn.Linear(x.shape[1], dataset.num_classes, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weights.T.float())
    trained = Trained(Network(nn.Sequential(nn.Flatten(), linear), dataset.input_shape))
    monkeypatch.setattr("gls_es.training.load_trained", lambda path, problem=None: trained, raising=False)
    (tmp_path / "checkpoint.pt").touch()
    return trained


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The problems that ``available`` finds."""
    found: dict[str, Any] = {
        "digits-cnn3": SimpleNamespace(
            name="digits-cnn3",
            target="gls_es.problems.digits:DigitsCNN3",
            summary="Handwritten digits [8x8]",
            parameters=1258,
            eps=0.1,
            radii=(0.1, 8 / 255),
            data="digits",
            data_found=None,
            data_missing="digits are missing: get them.",
            error=None,
        ),
        "bare": SimpleNamespace(name="bare", target="m:C", summary="", eps=None, data=None, error=None),
        "broken": SimpleNamespace(
            name="broken",
            target="other.package:Class",
            summary="",
            eps=None,
            data=None,
            error="No module named 'other'",
        ),
    }
    seconds = {"digits-cnn3": {"pgpe": 0.25, "grad": 120.0}}
    monkeypatch.setattr("gls_es.problem.registry.available", lambda _root: found)
    monkeypatch.setattr("gls_es.benchmark.recipe_seconds", lambda name, speed: seconds.get(name))
    return found
