"""The folder of a run: ``checkpoint.pt`` (its state), ``config.toml`` (what it is), ``metrics.jsonl`` (how it went)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from gls_es.basics.atomic import remove_leftovers, write_atomically
from gls_es.errors import CheckpointError, ConfigError
from gls_es.training.closing import Closing
from gls_es.training.lock import FolderLock
from gls_es.training.names import CHECKPOINT, CONFIG, METRICS
from gls_es.training.toml import dump_toml
from gls_es.training.wayon import way_on_of


class RunFolder(Closing):
    """A run folder that belongs to this process until :meth:`close`; also a context manager.

    Opening creates what is missing and deletes the temporary files that killed processes left. A path that must be new,
    or must be there, goes through :meth:`create` or :meth:`open`.

    Args:
        path: the folder.

    Raises:
        CheckpointError: the folder cannot be made or written.
        TrainingError: another process uses it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path / ".lock")
            try:
                remove_leftovers(self.path)
            except OSError:
                self.close()
                raise
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path}: cannot be used as a run folder ({_reason(error)}).") from error

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """Make the folder of a new run.

        Raises:
            ConfigError: it holds a run already.
            CheckpointError, TrainingError: as on construction.
        """
        folder = cls(path)
        held = [file.name for file in (folder.checkpoint, folder.config, folder.metrics) if file.exists()]
        if held:
            folder.close()
            how = f"continue it with {way_on_of(folder.path)}" if CHECKPOINT in held else "delete it"
            raise ConfigError(
                f"{path}: holds a run already ({', '.join(held)}); {how}, or choose another folder (--out, or out=)."
            )
        return folder

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the folder of a run that is there.

        Raises:
            CheckpointError: there is none, or it has no checkpoint; also as on construction.
            TrainingError: another process uses it.
        """
        folder = Path(path)
        missing = [name for name in (CONFIG, CHECKPOINT) if not (folder / name).is_file()]
        if missing:
            why = f"it has no {' and no '.join(missing)}" if folder.is_dir() else "there is no such folder"
            raise CheckpointError(f"{folder}: not the folder of a run that can go on ({why}).")
        return cls(folder)

    @property
    def checkpoint(self) -> Path:
        """The state of the run."""
        return self.path / CHECKPOINT

    @property
    def config(self) -> Path:
        """The settings of the run."""
        return self.path / CONFIG

    @property
    def metrics(self) -> Path:
        """The log of the run, a JSON object per line."""
        return self.path / METRICS

    def write_config(self, table: Mapping[str, Any]) -> None:
        """Write the settings, all or nothing; a key whose value is None is left out.

        Raises:
            CheckpointError: a value that TOML does not know, or a file that cannot be written.
        """
        try:
            write_atomically(self.config, dump_toml(table).encode())
        except (OSError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.config}: could not be written ({_reason(error)}).") from error

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()


class MetricsWriter(Closing):
    """Appends the rows of a run to its log, one line a row, handed to the system line by line; a context manager.

    Args:
        path: the file.
        after: on resuming, the last generation of the checkpoint: lines of later generations are dropped, since they
            will be written again, and so is a line that was torn when the process died. None empties the file.

    Raises:
        CheckpointError: the file cannot be read or written.
    """

    def __init__(self, path: str | Path, *, after: int | None = None) -> None:
        self.path = Path(path)
        self._broken = False
        try:
            kept = b"" if after is None else _kept_lines(self.path, after)
            write_atomically(self.path, kept)
            self._file = self.path.open("ab")
        except OSError as error:
            raise self._failed(error) from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; a number that is not finite becomes null, as JSON has no other word for it.

        Raises:
            CheckpointError: the file cannot be written.
        """
        clean = {key: _finite(value) for key, value in row.items()}
        try:
            self._file.write(json.dumps(clean, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            self._broken = True
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            if not self._broken:  # what was buffered when write() failed fails again, and was reported then
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> CheckpointError:
        return CheckpointError(f"{self.path}: the log could not be written ({_reason(error)}).")


def _kept_lines(path: Path, after: int) -> bytes:
    """The whole lines of generations up to ``after``; a torn line can only be the last one."""
    if not path.exists():
        return b""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        generation = _generation(line)
        if generation is not None and generation <= after:
            kept.append(line)
    return b"".join(kept)


def _generation(line: bytes) -> int | None:
    """The generation a log line is about, None for a torn line."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    generation = row.get("generation") if isinstance(row, dict) else None
    return generation if type(generation) is int else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
