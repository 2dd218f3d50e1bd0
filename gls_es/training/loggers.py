"""Where the metrics of a run go besides ``metrics.jsonl``: CSV, TensorBoard, Weights & Biases, MLflow.

Each is an EvoTorch logger. It can be attached to any EvoTorch searcher; ``gls-es train`` attaches it to a
:class:`Feed`, which hands it the rows of the run. Packages are imported only when a logger that needs them is made.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evotorch.logging import ScalarLogger

from gls_es.basics.atomic import write_atomically
from gls_es.training.bookkeeping import needed

_GROUP = "gls-es"  # project or experiment, where the environment names no other
_COUNTERS = frozenset({"generation", "generations", "iter"})


class Feed:
    """What a logger is attached to in the place of a searcher: a list of the functions that get each row."""

    def __init__(self) -> None:
        self.log_hook: list[Callable[[Mapping[str, Any]], None]] = []


class MetricsLogger(ScalarLogger):  # type: ignore[misc]
    """An EvoTorch logger of numbers by generation, which knows how far it has come.

    Attributes:
        last: the last generation that it holds already, from an earlier process; 0 if none.
    """

    last = 0

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Take the values of one generation."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was begun."""

    def _filter(self, status: Mapping[str, Any]) -> dict[str, Any]:
        return dict(super()._filter(status))

    def _log(self, status: dict[str, Any]) -> None:
        step = int(status["iter"] if "iter" in status else status["generation"])  # a searcher's own, or a run's
        if step > self.last:
            self.write(step, numbers(status))


class CsvLogger(MetricsLogger):
    """Rows of a table, one a generation, texts included; a column that comes later is empty in the rows before.

    Args:
        searcher: a searcher or a :class:`Feed`.
        path: the file, made anew.
    """

    def __init__(self, searcher: Any, path: str | Path) -> None:
        super().__init__(searcher)
        self._path = Path(path)
        self._columns: list[str] = []
        self._path.write_text("", encoding="utf-8")

    def _log(self, status: dict[str, Any]) -> None:
        row = {key: value for key, value in status.items() if isinstance(value, str)} | numbers(status, counters=True)
        if not row.keys() <= set(self._columns):
            self._widen([key for key in status if key in row and key not in self._columns])
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    def _widen(self, new: list[str]) -> None:
        old, self._columns = self._columns, self._columns + new
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
        filled = [line.rstrip("\n") + "," * (len(self._columns) - len(old)) + "\n" for line in lines]
        write_atomically(self._path, "".join([",".join(self._columns) + "\n", *filled]).encode())


class TensorBoardLogger(MetricsLogger):
    """Scalars in an event file.

    Args:
        searcher: a searcher or a :class:`Feed`.
        folder: of the event files; one that is there is continued.
        after: the last generation to keep of what is there.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    def __init__(self, searcher: Any, folder: str | Path, *, after: int = 0) -> None:
        writer = needed("tensorboard").SummaryWriter
        super().__init__(searcher)
        begun = Path(folder).is_dir() and any(Path(folder).iterdir())
        self.last = after if begun else 0
        self._writer = writer(str(folder), purge_step=after + 1 if begun else None)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add the values, and hand them to the system: a killed process loses none."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbLogger(MetricsLogger):
    """Metrics of a Weights & Biases run, in the project that WANDB_PROJECT names, else in "gls-es".

    Args:
        searcher: a searcher or a :class:`Feed`.
        run_id: of the run; one that is there is continued.
        name: what people see.
        folder: where wandb keeps its own files.
        config: settings to record.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self, searcher: Any, *, run_id: str, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        wandb = needed("wandb")
        super().__init__(searcher)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _GROUP),
            name=name,
            id=run_id,
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )
        self.last = max(0, int(self._run.step) - 1)  # it counts the step to come

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Send the values."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self._run.finish()


class MlflowLogger(MetricsLogger):
    """Metrics of an MLflow run, in the experiment that MLFLOW_EXPERIMENT_NAME names, else in "gls-es".

    Args:
        searcher: a searcher or a :class:`Feed`.
        run_id: of a run to continue; None makes one.
        name: what people see.
        config: settings to record.

    Raises:
        ConfigError: mlflow is not installed.
    """

    def __init__(self, searcher: Any, *, run_id: str | None, name: str, config: Mapping[str, Any]) -> None:
        self._mlflow = needed("mlflow")
        super().__init__(searcher)
        self._client = self._mlflow.MlflowClient()
        if run_id is None:
            group = os.environ.get("MLFLOW_EXPERIMENT_NAME", _GROUP)
            experiment = self._client.get_experiment_by_name(group)
            where = self._client.create_experiment(group) if experiment is None else experiment.experiment_id
            self.run_id: str = self._client.create_run(where, run_name=name).info.run_id
            for key, value in config.items():
                self._client.log_param(self.run_id, key, str(value))
        else:
            self.run_id = run_id
            self._client.update_run(run_id, status="RUNNING")
            steps = [point.step for point in self._client.get_metric_history(run_id, "mean_loss")]
            self.last = max(steps, default=0)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Send the values in one call."""
        now, metric = int(1000 * time.time()), self._mlflow.entities.Metric
        self._client.log_batch(self.run_id, metrics=[metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self.run_id)


def numbers(status: Mapping[str, Any], *, counters: bool = False) -> dict[str, float | int]:
    """The finite numbers of a status or a row; with the numbers of generations only if asked for."""
    return {
        name: value
        for name, value in status.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (counters or name not in _COUNTERS)
    }
