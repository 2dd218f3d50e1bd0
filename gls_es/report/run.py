"""What a run folder holds, read for a report; whatever is not there is left out."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gls_es.certification.records import read_records
from gls_es.certification.report import Verdict, count_verdicts
from gls_es.errors import DataError
from gls_es.training.names import CONFIG, METRICS, RUN


@dataclass(frozen=True)
class Records:
    """The verdicts of one radius.

    Attributes:
        path: the file.
        header: what was certified and how.
        verdicts: in the images' order.
    """

    path: Path
    header: dict[str, Any]
    verdicts: tuple[Verdict, ...]

    @property
    def eps(self) -> float:
        """The radius, in pixel units."""
        return float(self.header["eps"])

    @property
    def counts(self) -> dict[str, int]:
        """Images per verdict."""
        return count_verdicts(self.verdicts)

    def fraction(self, *lost: str) -> float:
        """The fraction of images whose verdict is none of ``lost``."""
        return 1.0 - sum(self.counts[name] for name in lost) / max(1, len(self.verdicts))


@dataclass(frozen=True)
class RunData:
    """A run as its folder tells it.

    Attributes:
        path: the folder of its training.
        name: what it is called in the report.
        config: its settings.
        rows: its log, a row per generation.
        records: its verdicts, smallest radius first.
    """

    path: Path
    name: str
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    records: tuple[Records, ...]

    def series(self, column: str) -> tuple[list[int], list[float]]:
        """Generations and values of a column of the log, where it has a number."""
        found = [(row["generation"], row[column]) for row in self.rows if isinstance(row.get(column), int | float)]
        return [generation for generation, _ in found], [float(value) for _, value in found]


def read_runs(folders: Sequence[str | Path]) -> list[RunData]:
    """The runs in ``folders``; names that are not unique are preceded by the folder above.

    Raises:
        DataError: as :func:`read_run`.
    """
    runs = [read_run(folder) for folder in folders]
    count = Counter(run.name for run in runs)
    longer = ["/".join(Path(folder).resolve().parts[-2:]) for folder in folders]
    return [replace(run, name=name) if count[run.name] > 1 else run for run, name in zip(runs, longer, strict=True)]


def read_run(folder: str | Path) -> RunData:
    """The run in ``folder``: config.toml, metrics.jsonl, and every records file (``gls-es certify --out``) beside them.

    A folder of ``gls-es reproduce`` holds its training in a folder of its own, and the records beside that.

    Raises:
        DataError: there is no run, or one of its files is damaged.
    """
    given = Path(folder)
    path = given / RUN if (given / RUN / CONFIG).is_file() else given
    config = path / CONFIG
    if not config.is_file():
        why = f"it has no {CONFIG}" if given.is_dir() else "there is no such folder"
        raise DataError(f"{given}: not a run folder ({why}); name the folder that gls-es train --out made.")
    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{config}: cannot be read ({error}).") from error
    files = [file for place in dict.fromkeys((given, path)) for file in sorted(place.glob("*.jsonl"))]
    records = [_records(file) for file in files if file.name != METRICS]
    kept = sorted((found for found in records if found is not None), key=lambda found: found.eps)
    return RunData(path, given.resolve().name, settings, tuple(_rows(path / METRICS)), tuple(kept))


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line feed is torn, or empty
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["generation"] = int(row["generation"])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: line {number} is damaged; delete it, or resume the run.") from error
        rows.append(row)
    return rows


def _records(path: Path) -> Records | None:
    """The records in ``path``, or None if it is another kind of JSON Lines."""
    with path.open("rb") as file:
        first = file.readline(1 << 20)
    if b'"gls-es certification"' not in first:
        return None
    header, verdicts = read_records(path)
    return Records(path, header, tuple(sorted(verdicts, key=lambda verdict: verdict.index)))
