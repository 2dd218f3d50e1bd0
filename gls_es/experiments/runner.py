"""Runs what a plan lacks: train, certify, write one results file per run; whatever stops it, the next call goes on.

A run's folder is locked while somebody works on it, so several processes may share a plan: each takes what is free.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gls_es import certification, training
from gls_es.basics.atomic import write_atomically
from gls_es.benchmark.measure import machine
from gls_es.certification import certifier, stages
from gls_es.errors import BusyError, TrainingError
from gls_es.experiments.plan import Plan, base_recipe
from gls_es.experiments.planning import WAIT, check_machine
from gls_es.experiments.results import RESULT, read_training
from gls_es.experiments.tables import Cell, Table
from gls_es.training.lock import FolderLock
from gls_es.training.names import CHECKPOINT, RUN
from gls_es.training.progress import NullProgress, Progress
from gls_es.training.settings import stretched, versions

STAGES = tuple(name for name in stages.STAGES if name != "quick-attack")
"""Of certification: as by default, but what the cheapest bounds prove is not attacked, which is most of the time of a
table. The verdicts are the same unless a bound is wrong."""
ROUND_STAGES = tuple(name for name in stages.ROUND_STAGES if name != "quick-attack")
"""The same for L2 balls."""


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

    @classmethod
    def of(cls, cell: Cell, seed: int, folder: Path) -> Job:
        """The run of a cell in the folder of its table."""
        return cls(cell, seed, folder / f"{cell.name}-seed{seed}")

    @property
    def result(self) -> Path:
        """The results file; there once the run is certified."""
        return self.folder / RESULT

    @property
    def run(self) -> Path:
        """The folder of training."""
        return self.folder / RUN

    @property
    def checkpoint(self) -> Path:
        """What training leaves."""
        return self.run / CHECKPOINT

    @property
    def training(self) -> Path:
        """What is known once training has ended."""
        return self.folder / "training.json"

    @property
    def verdicts(self) -> Path:
        """The records of certification."""
        return self.folder / "verdicts.jsonl"

    @property
    def trained(self) -> bool:
        """Whether training has ended, so that others can start from the checkpoint."""
        return self.training.exists() or self.result.exists()

    def clear(self) -> None:
        """Remove what a run without a checkpoint left: training would refuse the folder, certification the records."""
        if self.run.exists():
            shutil.rmtree(self.run)
        for path in (self.training, self.verdicts):
            path.unlink(missing_ok=True)

    def start(self, table: Table) -> Job | None:
        """The run of the same seed that this one starts from."""
        if not self.cell.start:
            return None
        return Job.of(table.cell(self.cell.start), self.seed, self.folder.parent)


def jobs(table: Table, plan: Plan, folder: Path, *, cells: Sequence[str] = ()) -> Iterator[Job]:
    """Every run of the plan, all cells of a seed before the next seed."""
    for seed in plan.seeds:
        for name in table.chosen(cells):
            if name in plan.generations:
                yield Job.of(table.cell(name), seed, folder)


@dataclass
class Outcome:
    """What a call of :func:`run_plan` did, and what it could not do.

    Attributes:
        written: the results files written by it.
        failed: why a run failed, or was left out because what it starts from failed, by the run's name.
        missing: runs without a result that did not fail: other processes work on them.
        total: runs in all.
    """

    written: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    total: int = 0


def run_plan(
    table: Table,
    plan: Plan,
    folder: Path,
    *,
    cells: Sequence[str] = (),
    data_root: str | Path | None = None,
    device: str = "cpu",
    progress: Callable[[], AbstractContextManager[Progress]] = NullProgress,
    certifying: Callable[[], AbstractContextManager[certifier.Progress | None]] = nullcontext,
    say: Callable[[str], None] = lambda _line: None,
) -> Outcome:
    """Train and certify what has no result yet.

    A run whose training fails does not keep the others from being run. A run that starts from one in other hands is put
    off until all others are done.

    Args:
        table: what is compared.
        plan: how often and how long.
        folder: where results go.
        cells: names of cells; none means all of the plan.
        data_root: folder of datasets.
        device: torch device.
        progress: makes what is told of every generation of a run.
        certifying: makes what is told of the images that are certified.
        say: told what begins, what is skipped and what failed.

    Raises:
        ConfigError, DataError: the device or the data are not there, or settings make no sense.
        TrainingInterrupted: Ctrl-C or SIGTERM during training; the same call goes on where it stopped.
    """
    everything = list(jobs(table, plan, folder, cells=cells))
    if not all(job.result.exists() for job in everything):
        check_machine(table, data_root, device)
    work = _Work(table, plan, data_root, device, progress, certifying, say)
    blocked, done = everything, work.outcome
    while True:
        before = len(done.written) + len(done.failed)
        blocked = [job for job in blocked if not work.finish(job)]
        if not blocked:
            break
        if len(done.written) + len(done.failed) == before:
            time.sleep(WAIT)  # nothing else is left to do
    done.total = len(everything)
    done.missing = sum(not job.result.exists() and job.folder.name not in done.failed for job in everything)
    return done


@dataclass(frozen=True)
class _Work:
    """What the runs of a plan have in common."""

    table: Table
    plan: Plan
    data_root: str | Path | None
    device: str
    progress: Callable[[], AbstractContextManager[Progress]]
    certifying: Callable[[], AbstractContextManager[certifier.Progress | None]]
    say: Callable[[str], None]
    outcome: Outcome = field(default_factory=Outcome)
    told: set[str] = field(default_factory=set)

    def finish(self, job: Job) -> bool:
        """Do what the run lacks, unless somebody works on it.

        Returns:
            False if it has to wait for what it starts from, which somebody works on.
        """
        name, failed = job.folder.name, self.outcome.failed
        if job.result.exists() or name in failed:
            return True
        start = job.start(self.table)
        if start is not None and not start.trained:
            self.finish(start)  # nobody may work on it any more
            if start.folder.name in failed:
                failed[name] = f"not run, because it starts from {start.folder.name}"
                return True
            if not start.trained:
                self._tell(name, f"waits for {start.folder.name}, which another process works on")
                return False
        self._locked(job, start)
        return True

    def _locked(self, job: Job, start: Job | None) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FolderLock(job.folder / ".lock")
        except BusyError:
            self._tell(job.folder.name, "another process works on it")
            return
        try:
            if job.result.exists():  # finished by another process a moment ago
                return
            self.say(f"{job.folder.name}: {self.plan.generations[job.cell.name]} generations")
            found = self._train(job, start) | self._certify(job, start)
            write_atomically(job.result, json.dumps(found, indent=1).encode())
            self.outcome.written.append(job.result)
        except TrainingError as error:
            self.outcome.failed[job.folder.name] = str(error)
            self.say(f"{job.folder.name}: failed: {error}")
        finally:
            lock.release()

    def _tell(self, name: str, what: str) -> None:
        """Say it of a run once, however often it is looked at."""
        if name not in self.told:
            self.told.add(name)
            self.say(f"{name}: {what}")

    def _train(self, job: Job, start: Job | None) -> dict[str, Any]:
        """Train the run to its end, or what is left of it; what is known then is kept in a file of its own."""
        if job.checkpoint.exists() and job.training.exists():
            return read_training(job.training)
        table, generations = self.table, self.plan.generations[job.cell.name]
        began = time.process_time()
        whole = not job.checkpoint.exists()
        if whole:
            job.clear()
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
        found = self._trained(job, cpu_seconds=time.process_time() - began if whole else None)
        write_atomically(job.training, json.dumps(found, indent=1).encode())
        return found

    def _trained(self, job: Job, *, cpu_seconds: float | None) -> dict[str, Any]:
        """What there is to say of a run whose training has ended."""
        table = self.table
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
                "cpu_seconds": cpu_seconds,
                "train_seconds": self.plan.train_seconds,
                "generation_seconds": self.plan.generation_seconds.get(job.cell.name),
            },
        }

    def _certify(self, job: Job, start: Job | None) -> dict[str, Any]:
        plan = self.plan
        trained = training.load_trained(job.checkpoint)
        data = trained.dataset(self.data_root)
        images, labels = data.split("validation" if plan.validation else "test").batch(slice(0, plan.limit))
        with self.certifying() as progress:
            report = certification.certify(
                trained, images, labels, self.table.eps, stages=STAGES, records=job.verdicts, timeout=plan.timeout,
                progress=progress,
            )  # fmt: skip
        return {
            "command": _command(self.table, plan, job, start),
            "certification": report.to_json(),
            "outcomes": "".join(verdict.verdict[0] for verdict in report.verdicts),
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
    settings = "".join(f" --set {_assignment(name, value)}" for name, value in _settings(table, plan, cell).items())
    return (
        f"gls-es train --problem {table.problem} --searcher {cell.searcher} --method {cell.method} --eps {table.eps!r} "
        f"--seed {job.seed} --generations {plan.generations[cell.name]}{settings} --out {out}"
    )


def _assignment(name: str, value: Any) -> str:
    """NAME=VALUE, as a shell and then TOML read it."""
    return shlex.quote(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
