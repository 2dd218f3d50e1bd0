"""Verdicts on disk: a JSON Lines file, one record per image, written as verdicts are reached.

The first line is a header that names the run (see ``identity``); every other line is ``Verdict.to_json()``. A line
counts once its line feed is written, so a process killed while writing leaves at most one torn last line, which is cut
off when the run is resumed. A file that belongs to another run is refused and left as it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from gls_es.basics.locks import appended_alone, closed_on_error
from gls_es.certification.headers import why_older
from gls_es.certification.report import REASONS, VERDICTS, Verdict
from gls_es.errors import DataError

FORMAT = 1
_KIND = "gls-es certification"


class RecordWriter:
    """Appends the verdicts of one run to its file, and knows those that are there already.

    Args:
        path: the file; created if missing, resumed if it holds this run's header.
        identity: the run, plain values.

    Raises:
        BusyError: another process writes to it.
        DataError: the file belongs to another run, is not a file of records, is damaged, or cannot be written.

    Attributes:
        verdicts: those already in the file when it was opened, by index.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        header = {"format": FORMAT, "kind": _KIND, **json.loads(json.dumps(identity, allow_nan=False))}
        line = _line(header)
        try:
            self._file: BinaryIO = appended_alone(path)
            with closed_on_error(self._file):
                content = path.read_bytes()
                self.verdicts = _resume(path, content, header, line)
                whole = content.rfind(b"\n") + 1
                if whole < len(content):
                    self._file.truncate(whole)
                if whole == 0:
                    self._append(line)
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, verdicts: list[Verdict]) -> None:
        """Append verdicts, a flush after each line and a sync of the disk at the end.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            for verdict in verdicts:
                self._append(_line(verdict.to_json()))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()


def read_records(path: str | Path) -> tuple[dict[str, Any], list[Verdict]]:
    """Header and verdicts of a file of records; a torn last line is left out.

    Raises:
        DataError: the file is missing, is not a file of records, or is damaged before its last line.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file that certify() wrote") from error
    return _parse(path, content)


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path}: records cannot be written ({error.strerror}); free space or choose another file, "
        "what was written so far is kept"
    )


def _line(table: dict[str, Any]) -> bytes:
    return json.dumps(table, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _resume(path: Path, content: bytes, header: dict[str, Any], line: bytes) -> dict[int, Verdict]:
    if line.startswith(content):  # empty, or torn within the header
        return {}
    found, verdicts = _parse(path, content)
    older = why_older(found, header)
    if older is not None:
        raise DataError(f"{path}: {older}")
    for key in sorted({*found, *header}):
        if found.get(key) != header.get(key):
            raise DataError(
                f"{path}: holds the records of another run ({_difference(key, found.get(key), header.get(key))}); "
                "choose another file, or delete this one to start over"
            )
    if any(not 0 <= verdict.index < header["n"] for verdict in verdicts):
        raise DataError(f"{path}: records an image that the run does not have; delete this file to start over")
    return {verdict.index: verdict for verdict in verdicts}


def _difference(key: str, there: Any, here: Any) -> str:
    if key in ("data", "n"):
        return "it is about other images"
    return f"{key} is {_short(there)} there and {_short(here)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _parse(path: Path, content: bytes) -> tuple[dict[str, Any], list[Verdict]]:
    lines = content.split(b"\n")[:-1]  # what follows the last line feed is torn, or empty
    try:
        header = json.loads(lines[0])
        if header["kind"] != _KIND or header["format"] != FORMAT:
            raise ValueError
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise DataError(f"{path}: not a file of certification records; choose another file") from None
    verdicts: dict[int, Verdict] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            verdict = _verdict(json.loads(line))
            if verdict.index in verdicts:
                raise ValueError("an image recorded twice")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError(f"{path}: line {number} is damaged; delete that line to have its image redone") from None
        verdicts[verdict.index] = verdict
    return header, list(verdicts.values())


def _verdict(table: dict[str, Any]) -> Verdict:
    """The verdict of a record; raises ValueError, KeyError or TypeError on anything that ``to_json`` cannot write."""
    margin, stage, verdict = table["margin"], table["stage"], table["verdict"]
    index, label, predicted = table["index"], table["label"], table["predicted"]
    became = table.get("became")  # earlier versions did not keep it
    if not (became is None or type(became) is int):
        raise ValueError("became")
    if verdict not in VERDICTS or not all(type(number) is int for number in (index, label, predicted)):
        raise ValueError
    if not (stage is None or isinstance(stage, str)) or not (margin is None or math.isfinite(margin)):
        raise ValueError
    if verdict == "certified" and not (margin is not None and margin > 0):
        raise ValueError
    reason = table["reason"]
    if reason not in REASONS if verdict == "unknown" else reason is not None:
        raise ValueError
    times = {str(name): float(seconds) for name, seconds in table["times"].items()}
    example = _tensor(table["counterexample"])
    return Verdict(index, label, predicted, verdict, stage, margin, example, times, reason, became)


def _tensor(table: dict[str, Any] | None) -> Tensor | None:
    if table is None:
        return None
    data = base64.b64decode(table["float32"], validate=True)
    if hashlib.sha256(data).hexdigest() != table["sha256"]:
        raise ValueError
    return torch.from_numpy(np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(table["shape"]))
