"""The log of a run: every row goes to ``metrics.jsonl``, and from there to the loggers that were asked for."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from gls_es.basics.atomic import write_atomically
from gls_es.errors import GlsEsError, TrainingError
from gls_es.training.bookkeeping import Bookkeeping
from gls_es.training.closing import Closing
from gls_es.training.runfolder import MetricsWriter, RunFolder

Note = Callable[[str], None]


class RunLog(Closing):
    """Writes the rows of a run; a context manager.

    A logger that cannot begin stops the run before it has begun; one that fails later is left out, with a note, because
    no training should be lost to a server that is down.

    Args:
        folder: of the run.
        bookkeeping: names the loggers.
        config: settings for those that record them.
        note: told when a logger fails.
        after: on resuming, the last generation of the checkpoint; None begins anew.

    Raises:
        CheckpointError: ``metrics.jsonl`` cannot be read or written.
        ConfigError: a package is missing.
        TrainingError: a logger cannot begin.
    """

    def __init__(
        self,
        folder: RunFolder,
        bookkeeping: Bookkeeping,
        *,
        config: Mapping[str, Any],
        note: Note,
        after: int | None = None,
    ) -> None:
        self._metrics = MetricsWriter(folder.metrics, after=after)
        self._note = note
        self._loggers: dict[str, Any] = {}
        try:
            for name in bookkeeping.log or ():
                self._loggers[name] = _begun(name, folder, config, after or 0)
            if self._loggers and after is not None:
                for line in folder.metrics.read_text(encoding="utf-8").splitlines():
                    self._tell(json.loads(line))
        except BaseException:
            self.close()
            raise

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row.

        Raises:
            CheckpointError: ``metrics.jsonl`` cannot be written.
        """
        self._metrics.write(row)
        self._tell(row)

    def close(self) -> None:
        """Finish every logger and close the file."""
        for name in list(self._loggers):
            self._guarded(name, lambda logger: logger.close())
        self._loggers.clear()
        self._metrics.close()

    def _tell(self, row: Mapping[str, Any]) -> None:
        if self._loggers:
            values = _flat(row)
            for name in list(self._loggers):
                self._guarded(name, lambda logger: logger(values))

    def _guarded(self, name: str, do: Callable[[Any], None]) -> None:
        try:
            do(self._loggers[name])
        except Exception as error:
            del self._loggers[name]
            self._note(f"--log {name} failed ({_reason(error)}); training goes on without it.")


def _begun(name: str, folder: RunFolder, config: Mapping[str, Any], after: int) -> Any:
    from gls_es.training import loggers

    feed, ids = loggers.Feed(), folder.path / "tracking.json"
    known: dict[str, str] = json.loads(ids.read_text(encoding="utf-8")) if ids.exists() else {}
    logger: Any
    try:
        if name == "csv":
            return loggers.CsvLogger(feed, folder.path / "metrics.csv")
        if name == "tensorboard":
            return loggers.TensorBoardLogger(feed, folder.path / "tensorboard", after=after)
        if name == "wandb":
            found = known.get(name) or secrets.token_hex(4)
            logger = loggers.WandbLogger(feed, run_id=found, name=folder.path.name, folder=folder.path, config=config)
        else:
            logger = loggers.MlflowLogger(feed, run_id=known.get(name), name=folder.path.name, config=_flat(config))
            found = logger.run_id
    except GlsEsError:
        raise
    except Exception as error:
        raise TrainingError(f"--log {name} could not begin ({_reason(error)}); leave it out, or mend it.") from error
    if known.get(name) != found:
        write_atomically(ids, json.dumps(known | {name: found}).encode())
    return logger


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested table by dotted names, without those that are None."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
