"""The verdicts of a search for radii on disk: JSON Lines, a header that names the run, then a line for each step.

A line holds the verdicts of all images that were certified together, and counts once its line feed is written: a killed
run leaves at most one torn last line, which is cut off when it is resumed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gls_es.basics.locks import appended_alone, closed_on_error
from gls_es.certification.headers import why_older
from gls_es.certification.report import VERDICTS, VerdictName
from gls_es.errors import DataError

FORMAT = 1
_KIND = "gls-es radii"


@dataclass(frozen=True)
class Step:
    """One verdict.

    Attributes:
        index: the image.
        point: the radius, in multiples of the tolerance.
        verdict: what ``certify`` said.
        stage: the stage that decided.
        margin: as in ``Verdict``.
        seconds: spent on it.
    """

    index: int
    point: int
    verdict: VerdictName
    stage: str | None
    margin: float | None
    seconds: float


class RadiusLog:
    """Appends the steps of one run to its file, and knows those that are there already.

    Args:
        path: the file; created if missing, resumed if it holds this run's header.
        identity: the run, plain values; with the number of images "n" and of grid "points".

    Raises:
        BusyError: another process writes to it.
        DataError: the file belongs to another run, is no such file, is damaged, or cannot be written.

    Attributes:
        steps: those in the file when it was opened, in order.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        header = {"format": FORMAT, "kind": _KIND, **json.loads(json.dumps(identity, allow_nan=False))}
        try:
            self._file: BinaryIO = appended_alone(path)
            with closed_on_error(self._file):
                content = path.read_bytes()
                whole = content.rfind(b"\n") + 1
                self.steps = _read(path, content[:whole], header) if whole else []
                if whole == 0 and not _line(header).startswith(content):
                    raise DataError(f"{path}: not a file of radii; choose another file")
                self._file.truncate(whole)
                if whole == 0:
                    self._append(header)
        except OSError as error:
            raise DataError(f"{path}: records cannot be written ({error.strerror}); choose another file") from error

    def write(self, steps: list[Step]) -> None:
        """Append the steps of images that were certified together.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            self._append([asdict(step) for step in steps])
        except OSError as error:
            raise DataError(
                f"{self.path}: records cannot be written ({error.strerror}); what was written so far is kept"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, content: Any) -> None:
        self._file.write(_line(content))
        self._file.flush()
        os.fsync(self._file.fileno())


def _line(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _read(path: Path, content: bytes, header: dict[str, Any]) -> list[Step]:
    lines = content.split(b"\n")[:-1]
    try:
        found = json.loads(lines[0])
        if found["kind"] != _KIND or found["format"] != FORMAT:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path}: not a file of radii; choose another file") from None
    older = why_older(found, header)
    if older is not None:
        raise DataError(f"{path}: {older}")
    for key in sorted({*found, *header}):
        if found.get(key) != header.get(key):
            raise DataError(
                f"{path}: holds the radii of another run ({key} differs); choose another file, or delete this one"
            )
    steps: list[Step] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            steps += [_step(table, header) for table in json.loads(line)]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{path}: line {number} is damaged; delete it and what follows to have it redone") from None
    return steps


def _step(table: dict[str, Any], header: dict[str, Any]) -> Step:
    step = Step(**table)
    counts = all(type(number) is int for number in (step.index, step.point))
    if not counts or not 0 <= step.index < header["n"] or not 0 <= step.point <= header["points"]:
        raise ValueError
    if step.verdict not in VERDICTS or not step.seconds >= 0:
        raise ValueError
    return step
