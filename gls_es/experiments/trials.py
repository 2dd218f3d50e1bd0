"""Trials of a search on disk: a folder each, with what is tried, the run, the verdicts, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gls_es.basics.atomic import write_atomically
from gls_es.errors import DataError
from gls_es.training.names import CHECKPOINT, CONFIG, RUN

ASKED = "trial.json"
FOUND = "result.json"


@dataclass(frozen=True)
class Trial:
    """One point of a search.

    Attributes:
        folder: where it is kept.
        params: the hyper-parameters tried.
        generations: how long it trains; None before that is settled.
        natural: natural accuracy on the validation images, a fraction; None before it is known.
        certified: certified accuracy on them.
        unknown: how many of them were not decided; not certified.
        images: how many they are.
        seconds: measuring, training and certification, from where the last call went on.
        failed: why there is no accuracy; empty if there is one, or none yet.
    """

    folder: Path
    params: Mapping[str, Any] = field(default_factory=dict)
    generations: int | None = None
    natural: float | None = None
    certified: float | None = None
    unknown: int | None = None
    images: int | None = None
    seconds: float | None = None
    failed: str = ""

    @property
    def number(self) -> int:
        """Its place in the search, from 0."""
        return int(self.folder.name.rpartition("-")[2])

    @property
    def finished(self) -> bool:
        """Whether its accuracies are known."""
        return self.certified is not None

    @property
    def open(self) -> bool:
        """Whether something is left to do."""
        return not self.finished and not self.failed

    @property
    def run(self) -> Path:
        """The folder of training."""
        return self.folder / RUN

    @property
    def checkpoint(self) -> Path:
        """What training leaves."""
        return self.run / CHECKPOINT

    @property
    def config(self) -> Path:
        """What ``gls-es train --config`` repeats it from."""
        return self.run / CONFIG

    @property
    def verdicts(self) -> Path:
        """The records of certification."""
        return self.folder / "verdicts.jsonl"

    def to_json(self) -> dict[str, Any]:
        """The trial as plain values, without what is not known."""
        names = ("generations", "natural", "certified", "unknown", "images", "seconds")
        known = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        failed = {"failed": self.failed} if self.failed else {}
        return {"number": self.number, "params": dict(self.params), **known, **failed, "config": str(self.config)}


def folder_of(folder: Path, number: int) -> Path:
    """Where a search keeps a trial."""
    return folder / f"trial-{number:04d}"


def read_trials(folder: Path) -> list[Trial]:
    """All trials of a search, in order.

    Raises:
        DataError: a file of one cannot be read.
    """
    return [_trial(path.parent) for path in sorted(folder.glob(f"trial-*/{ASKED}"))]


def _trial(folder: Path) -> Trial:
    asked = _read(folder / ASKED)
    found = _read(folder / FOUND) if (folder / FOUND).exists() else {}
    try:
        return Trial(folder, **{**asked, **found})
    except TypeError as error:
        raise DataError(f"{folder}: is damaged ({error}); move it out of the search's folder.") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); move its folder out of the search's.") from error
    return content


def write_asked(trial: Trial) -> None:
    """Keep what is tried, and how long."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    _write(trial.folder / ASKED, {"params": dict(trial.params), "generations": trial.generations})


def write_found(trial: Trial) -> None:
    """Keep what came of it."""
    names = ("failed",) if trial.failed else ("natural", "certified", "unknown", "images", "seconds")
    _write(trial.folder / FOUND, {name: getattr(trial, name) for name in names})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=1).encode())
