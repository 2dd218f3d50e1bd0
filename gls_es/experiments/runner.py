"""Runs what a plan lacks: train, certify, write one results file per run; whatever stops it, the next call goes on.

A run's folder is locked while somebody works on it, so several processes may share a plan: each takes what is free.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gls_es import certification, training
from gls_es.benchmark.measure import machine
from gls_es.errors import BusyError, DataError
from gls_es.experiments.plan import Plan
from gls_es.experiments.tables import Cell, Table
from gls_es.training.atomic import write_atomically
from gls_es.training.lock import FolderLock
from gls_es.training.progress import NullProgress, Progress
from gls_es.training.settings import versions

RESULT = "result.json"


@dataclass(frozen=True)
class Job:
    """One run of a plan.

    Attributes:
        cell: how to train.
        seed: of everything random.
        folder: where its run, records and result are.
    """

    cell: Cell
    seed: int
    folder: Path

    @property
    def result(self) -> Path:
        """The results file; there once the run is certified."""
        return self.folder / RESULT


def jobs(table: Table, plan: Plan, folder: Path, *, cells: Sequence[str] = ()) -> Iterator[Job]:
    """Every run of the plan, all cells of a seed before the next seed."""
    for seed in plan.seeds:
        for name in cells or table.cell_names:
            if name in plan.generations:
                yield Job(table.cell(name), seed, folder / f"{name}-seed{seed}")


def run_plan(
    table: Table,
    plan: Plan,
    folder: Path,
    *,
    cells: Sequence[str] = (),
    data_root: str | Path | None = None,
    device: str = "cpu",
    progress: Callable[[], AbstractContextManager[Progress]] = NullProgress,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Path]:
    """Train and certify what has no result yet.

    Args:
        table: what is compared.
        plan: how often and how long.
        folder: where results go.
        cells: names of cells; none means all of the plan.
        data_root: folder of datasets.
        device: torch device.
        progress: makes what is told of every generation of a run.
        say: told what begins and what is skipped.

    Returns:
        The results files written by this call.

    Raises:
        TrainingInterrupted: Ctrl-C or SIGTERM during training; the same call goes on where it stopped.
    """
    written = []
    for job in jobs(table, plan, folder, cells=cells):
        if job.result.exists():
            continue
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FolderLock(job.folder / ".lock")
        except BusyError:
            say(f"{job.folder.name}: another process works on it")
            continue
        try:
            if job.result.exists():  # finished by another process a moment ago
                continue
            say(f"{job.folder.name}: {plan.generations[job.cell.name]} generations")
            found = _train(table, plan, job, data_root=data_root, device=device, progress=progress())
            found |= _certified(plan, job, table, data_root=data_root)
            write_atomically(job.result, json.dumps(found, indent=1).encode())
            written.append(job.result)
        finally:
            lock.release()
    return written


def _train(
    table: Table,
    plan: Plan,
    job: Job,
    *,
    data_root: str | Path | None,
    device: str,
    progress: AbstractContextManager[Progress],
) -> dict[str, Any]:
    """Train the run to its end, or what is left of it."""
    run = job.folder / "run"
    generations = plan.generations[job.cell.name]
    began = time.process_time()
    whole = not (run / "checkpoint.pt").exists()
    with progress as shown:
        if whole:
            overrides = {"evaluate_every": max(1, generations // 10), **job.cell.settings}
            training.train(
                table.problem, job.cell.searcher, out=run, seed=job.seed, eps=table.eps, method=job.cell.method,
                generations=generations, device=device, data_root=data_root, overrides=overrides, progress=shown,
            )  # fmt: skip
        else:
            training.resume(run, data_root=data_root, progress=shown)
    content = training.load_trained(run / "checkpoint.pt").content
    return {
        "table": table.name,
        "cell": job.cell.name,
        "seed": job.seed,
        "problem": table.problem,
        "eps": table.eps,
        "searcher": job.cell.searcher,
        "method": job.cell.method,
        "recipe": content["recipe"],
        "training": {
            "generations": content["generation"],
            "seconds": content["elapsed_seconds"],
            "cpu_seconds": time.process_time() - began if whole else None,
            "train_seconds": plan.train_seconds,
            "generation_seconds": plan.generation_seconds.get(job.cell.name),
        },
    }


def _certified(plan: Plan, job: Job, table: Table, *, data_root: str | Path | None) -> dict[str, Any]:
    trained = training.load_trained(job.folder / "run" / "checkpoint.pt")
    images, labels = trained.dataset(data_root).test.batch(slice(0, plan.limit))
    report = certification.certify(
        trained, images, labels, table.eps, records=job.folder / "verdicts.jsonl", timeout=plan.timeout
    )
    return {
        "command": _command(table, plan, job),
        "certification": report.to_json(),
        "machine": machine(images.device),
        "versions": versions(),
    }


def _command(table: Table, plan: Plan, job: Job) -> str:
    """What runs this one again, on any machine: the length of training was settled by the plan."""
    settings = "".join(f" --set {name}={value}" for name, value in job.cell.settings.items())
    return (
        f"gls-es train --problem {table.problem} --searcher {job.cell.searcher} --method {job.cell.method} "
        f"--eps {table.eps!r} --seed {job.seed} --generations {plan.generations[job.cell.name]}{settings} --out RUN && "
        f"gls-es certify RUN/checkpoint.pt --limit {plan.limit} --timeout {plan.timeout:g}"
    )


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Every results file under ``folder``.

    Raises:
        DataError: one cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"*/{RESULT}")):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a result ({error}); delete it to run it again.") from error
    return found
