"""Runs what a plan lacks: train, certify, write one results file per run; whatever stops it, the next call goes on.

A run's folder is locked while somebody works on it, so several processes may share a plan: each takes what is free.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gls_es import certification, training
from gls_es.benchmark.measure import machine
from gls_es.errors import BusyError, DataError
from gls_es.experiments.plan import Plan, base_recipe
from gls_es.experiments.tables import Cell, Table
from gls_es.training.atomic import write_atomically
from gls_es.training.lock import FolderLock
from gls_es.training.progress import NullProgress, Progress
from gls_es.training.settings import stretched, versions

RESULT = "result.json"
STAGES = ("ibp", "crown-ibp", "attack", "crown", "best", "alpha", "bab")
"""Of certification: as by default, but what the cheapest bounds prove is not attacked, which is most of the time of a
table. The verdicts are the same unless a bound is wrong."""
WAIT = 1.0
"""Seconds between two looks at a run that another process works on."""


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

    @property
    def run(self) -> Path:
        """The folder of training."""
        return self.folder / "run"

    @property
    def checkpoint(self) -> Path:
        """What training leaves."""
        return self.run / "checkpoint.pt"

    def start(self, table: Table) -> Job | None:
        """The run of the same seed that this one starts from."""
        if not self.cell.start:
            return None
        return Job(table.cell(self.cell.start), self.seed, self.folder.parent / f"{self.cell.start}-seed{self.seed}")


def jobs(table: Table, plan: Plan, folder: Path, *, cells: Sequence[str] = ()) -> Iterator[Job]:
    """Every run of the plan, all cells of a seed before the next seed."""
    for seed in plan.seeds:
        for name in table.chosen(cells):
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
    work = _Work(table, plan, data_root, device, progress, say)
    for job in jobs(table, plan, folder, cells=cells):
        work.finish(job)
    return work.written


@dataclass(frozen=True)
class _Work:
    """What the runs of a plan have in common."""

    table: Table
    plan: Plan
    data_root: str | Path | None
    device: str
    progress: Callable[[], AbstractContextManager[Progress]]
    say: Callable[[str], None]
    written: list[Path] = field(default_factory=list)

    def finish(self, job: Job, *, told: bool = False) -> None:
        """Do what the run lacks, unless somebody works on it, which is said if it is not ``told`` yet."""
        if job.result.exists():
            return
        start = job.start(self.table)
        if start is not None:
            self._wait_for(start)
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FolderLock(job.folder / ".lock")
        except BusyError:
            if not told:
                self.say(f"{job.folder.name}: another process works on it")
            return
        try:
            if job.result.exists():  # finished by another process a moment ago
                return
            self.say(f"{job.folder.name}: {self.plan.generations[job.cell.name]} generations")
            found = self._train(job, start) | self._certify(job, start)
            write_atomically(job.result, json.dumps(found, indent=1).encode())
            self.written.append(job.result)
        finally:
            lock.release()

    def _wait_for(self, start: Job) -> None:
        """Have the run that others start from finished: by this process, or by the one that works on it."""
        self.finish(start)
        while not start.result.exists():
            time.sleep(WAIT)
            self.finish(start, told=True)

    def _train(self, job: Job, start: Job | None) -> dict[str, Any]:
        """Train the run to its end, or what is left of it."""
        table, generations = self.table, self.plan.generations[job.cell.name]
        began = time.process_time()
        whole = not job.checkpoint.exists()
        with self.progress() as shown:
            if whole:
                settings = {"evaluate_every": max(1, generations // 10), **_settings(table, self.plan, job.cell)}
                training.train(
                    table.problem, job.cell.searcher, out=job.run, seed=job.seed, eps=table.eps,
                    method=job.cell.method, generations=generations, device=self.device, data_root=self.data_root,
                    overrides=settings, init=None if start is None else start.checkpoint, progress=shown,
                )  # fmt: skip
            else:
                training.resume(job.run, data_root=self.data_root, progress=shown)
        content = training.load_trained(job.checkpoint).content
        return {
            "table": table.name,
            "cell": job.cell.name,
            "seed": job.seed,
            "problem": table.problem,
            "eps": table.eps,
            "searcher": job.cell.searcher,
            "method": job.cell.method,
            "start": job.cell.start,
            "recipe": content["recipe"],
            "training": {
                "generations": content["generation"],
                "seconds": content["elapsed_seconds"],
                "cpu_seconds": time.process_time() - began if whole else None,
                "train_seconds": self.plan.train_seconds,
                "generation_seconds": self.plan.generation_seconds.get(job.cell.name),
            },
        }

    def _certify(self, job: Job, start: Job | None) -> dict[str, Any]:
        plan = self.plan
        trained = training.load_trained(job.checkpoint)
        data = trained.dataset(self.data_root)
        images, labels = data.split("validation" if plan.validation else "test").batch(slice(0, plan.limit))
        report = certification.certify(
            trained, images, labels, self.table.eps, stages=STAGES, records=job.folder / "verdicts.jsonl",
            timeout=plan.timeout,
        )  # fmt: skip
        return {
            "command": _command(self.table, plan, job, start),
            "certification": report.to_json(),
            "machine": machine(images.device),
            "versions": versions(),
        }


def _settings(table: Table, plan: Plan, cell: Cell) -> dict[str, Any]:
    """What a run sets besides the number of generations: fields of its recipe, and the split."""
    recipe = plan.recipe(table, cell).as_dict()
    # What ``train`` would make of the number of generations alone: phases that the cell sets are scaled with the run.
    alone = stretched(base_recipe(table, cell), plan.generations[cell.name]).as_dict()
    names = {*cell.settings, *plan.settings, *(name for name, value in recipe.items() if value != alone[name])}
    validation = {"validation": plan.validation} if plan.validation else {}
    return {name: recipe[name] for name in sorted(names - {"generations"})} | validation


def _command(table: Table, plan: Plan, job: Job, start: Job | None) -> str:
    """What runs this one again, on any machine: the length of training was settled by the plan."""
    first = "" if start is None else _training_command(table, plan, start, "START") + " && "
    init = "" if start is None else " --init START/checkpoint.pt"
    split = " --split validation" if plan.validation else ""
    return (
        f"{first}{_training_command(table, plan, job, 'RUN')}{init} && gls-es certify RUN/checkpoint.pt "
        f"--limit {plan.limit} --stages {','.join(STAGES)} --timeout {plan.timeout:g}{split}"
    )


def _training_command(table: Table, plan: Plan, job: Job, out: str) -> str:
    cell = job.cell
    settings = "".join(f" --set {name}={value}" for name, value in _settings(table, plan, cell).items())
    return (
        f"gls-es train --problem {table.problem} --searcher {cell.searcher} --method {cell.method} --eps {table.eps!r} "
        f"--seed {job.seed} --generations {plan.generations[cell.name]}{settings} --out {out}"
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
            raise DataError(
                f"{path}: cannot be read as a result ({error}); move it away to have it made again."
            ) from error
    return found
