"""Several processes of this machine on one plan, as if the command were given that often: each takes what is free."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from gls_es.errors import GlsEsError, TrainingError
from gls_es.experiments.plan import Plan
from gls_es.experiments.runner import Outcome, jobs, run_plan
from gls_es.experiments.tables import Table
from gls_es.training.loop import TrainingInterrupted


def run_in_processes(
    table: Table,
    plan: Plan,
    folder: Path,
    *,
    count: int,
    cells: Sequence[str] = (),
    data_root: str | Path | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda _line: None,
) -> Outcome:
    """:func:`gls_es.experiments.run_plan` in ``count`` processes, which share this one's threads.

    Args:
        table: what is compared.
        plan: how often and how long.
        folder: where results go.
        count: processes, at least 1.
        cells: names of cells; none means all of the plan.
        data_root: folder of datasets.
        device: torch device.
        say: told what the processes say.

    Raises:
        TrainingError: a process ended without a word: it was killed, say. What it did is kept.
        TrainingInterrupted: Ctrl-C or SIGTERM, after every process has saved; the same call goes on.
        GlsEsError: what a process could not go on with, after all of them ended.
    """
    threads = max(1, torch.get_num_threads() // count)
    options = {"cells": tuple(cells), "data_root": data_root, "device": device}
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads, broken
    workers: list[SpawnProcess] = []
    readers: list[Connection] = []
    found: list[tuple[str, Any]] = []
    with _passing_on(workers) as stopped:
        for _ in range(count):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(writer, threads, table, plan, folder, options))
            process.start()
            writer.close()  # so that the reader ends with its process
            workers.append(process)
            readers.append(reader)
        while readers:
            for ready in wait(readers):
                found += _heard(ready, readers, say)  # type: ignore[arg-type]
        for process in workers:
            process.join()
    if stopped:
        raise TrainingInterrupted("stopped; every process saved its run, and the same command goes on.")
    return _together(found, count, list(jobs(table, plan, folder, cells=cells)))


def _heard(ready: Connection, readers: list[Connection], say: Callable[[str], None]) -> list[tuple[str, Any]]:
    """What a process says; one that has ended is not listened to any more."""
    try:
        kind, what = ready.recv()
    except EOFError:
        readers.remove(ready)
        return []
    if kind != "said":
        return [(kind, what)]
    say(what)
    return []


def _together(found: list[tuple[str, Any]], count: int, everything: Sequence[Any]) -> Outcome:
    """One outcome of those of the processes."""
    for kind, what in found:
        if kind == "error":
            raise what
    if len(found) < count:
        raise TrainingError(
            f"{count - len(found)} of {count} processes ended without a result, killed or out of memory; what they did "
            "is kept, the same command goes on."
        )
    whole = Outcome(total=len(everything))
    for _, outcome in found:
        whole.written += outcome.written
        whole.failed |= outcome.failed
    whole.failed = {job.folder.name: whole.failed[job.folder.name] for job in everything if _failed(job, whole)}
    whole.missing = sum(not job.result.exists() and job.folder.name not in whole.failed for job in everything)
    return whole


def _failed(job: Any, outcome: Outcome) -> bool:
    """Whether a run failed in one process and was not made by another one afterwards."""
    return job.folder.name in outcome.failed and not job.result.exists()


def _work(writer: Connection, threads: int, table: Table, plan: Plan, folder: Path, options: dict[str, Any]) -> None:
    """The body of a process: its outcome, or why it could not go on, through the pipe."""
    torch.set_num_threads(threads)
    try:
        outcome = run_plan(table, plan, folder, **options, say=lambda line: writer.send(("said", line)))
        writer.send(("done", outcome))
    except (TrainingInterrupted, KeyboardInterrupt) as stop:
        writer.send(("error", TrainingInterrupted(str(stop) or "stopped; the same command goes on.")))
    except GlsEsError as error:
        writer.send(("error", type(error)(str(error))))


@contextlib.contextmanager
def _passing_on(workers: Sequence[SpawnProcess]) -> Iterator[list[int]]:
    """Hand SIGTERM on to the processes, and leave Ctrl-C, which reaches them by itself, to them; the signals that came.

    Outside the main thread it does nothing.
    """
    came: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if number == signal.SIGTERM:
            for process in workers:
                process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
