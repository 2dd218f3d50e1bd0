"""Short runs on a toy problem, and what the tests of runs look at."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gls_es.training import train
from gls_es.training.checkpoint import load_checkpoint, save_checkpoint
from gls_es.training.progress import NullProgress
from tests.problem.toys import options

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
    more = {name: changes.pop(name) for name in ("progress", "eps", "method", "bookkeeping", "init") if name in changes}
    return train(
        problem, searcher, out=out, seed=seed, generations=GENERATIONS,
        overrides=options(**changes), **more,
    )  # fmt: skip


def edited(run: Path, **changes: Any) -> Path:
    """The run with other things in its checkpoint."""
    content = load_checkpoint(run / "checkpoint.pt") | changes
    gone = {name for name, value in changes.items() if value is None}
    save_checkpoint(run / "checkpoint.pt", {k: v for k, v in content.items() if k not in gone})
    return run
