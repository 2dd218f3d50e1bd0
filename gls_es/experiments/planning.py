"""A table's plan in the making: options are held against the plan in the folder, and times are measured."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gls_es.basics.atomic import write_atomically
from gls_es.errors import BusyError, ConfigError
from gls_es.experiments.fitting import Extent, fitted
from gls_es.experiments.pace import Pace
from gls_es.experiments.plan import PLAN, SEEDS, Plan, read_plan
from gls_es.experiments.tables import Cell, Table
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.problem.registry import resolve
from gls_es.training.lock import FolderLock
from gls_es.training.settings import check_device
from gls_es.training.timing import brief_weights, generation_seconds

WAIT = 1.0
"""Seconds between two looks at what another process works on."""


def make_plan(
    table: Table,
    folder: Path,
    *,
    cells: Sequence[str] = (),
    seeds: int | None = None,
    limit: int | None = None,
    budget: float | None = None,
    train_seconds: float | None = None,
    timeout: float | None = None,
    validation: int | None = None,
    settings: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    device: str = "cpu",
    keep: bool = True,
    say: Callable[[str], None] = lambda _line: None,
) -> Plan:
    """The plan in ``folder``, or a new one that is written there.

    Cells that an existing plan lacks are added to it; everything else in it stays, and options that contradict it are
    refused, because numbers of different budgets or settings do not belong in one table.

    Args:
        table: what is compared.
        folder: where the table's results go.
        cells: names of cells, in which * stands for anything, also those that they start from; none means the
            comparison and the baselines.
        seeds: runs per cell, with seeds 0, 1, .... This and the next ones: None: as the plan in the folder says, or,
            if it is new, as :class:`Plan` does, with :data:`SEEDS` seeds.
        limit: images to certify.
        budget: seconds for all of it, about. What is not said otherwise is cut to fit, see
            :func:`gls_es.experiments.fitting.fitted`.
        train_seconds: seconds of training per run instead.
        timeout: seconds that the search of certification may take for one image.
        validation: certify images kept out of training instead of test images, of this many.
        settings: recipe fields of all runs, over those of the cells.
        data_root: folder of datasets.
        device: torch device.
        keep: write the plan into the folder; without it nothing is changed.
        say: told what is being measured.

    Raises:
        ConfigError: options that make no sense or contradict the plan in the folder.
        DataError: the plan in the folder cannot be read, or the problem's data are not there.
    """
    wanted = _Wanted(seeds, limit, budget, train_seconds, timeout, validation, _plain(settings or {}))
    wanted.check()
    extent = _extent(table, folder, cells, wanted)
    chosen = table.chosen(cells) if extent is None else extent.cells
    making = _Making(table, folder / PLAN, chosen, wanted, extent, data_root, device, say)
    making.check()
    if extent is not None:
        say(f"{wanted.budget:g} s are enough for {extent}")
    if not keep:
        return making.completed(making.begun())
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, say):  # or two processes would each write a plan without the other's cells
        return making.written()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As a plan's file gives them back: a tuple is a list there."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


@dataclass(frozen=True)
class _Wanted:
    """What was asked for; None: nothing."""

    seeds: int | None
    limit: int | None
    budget: float | None
    train_seconds: float | None
    timeout: float | None
    validation: int | None
    settings: dict[str, Any]

    def check(self) -> None:
        if self.budget is not None and self.train_seconds is not None:
            raise ConfigError("give --budget or --train-time, not both.")

    def given(self, extent: Extent | None) -> dict[str, Any]:
        """The fields of a plan that were given; the extent is what a budget comes to."""
        seconds = self.train_seconds if extent is None else extent.train_seconds
        found = {
            "limit": self.limit, "train_seconds": seconds, "timeout": self.timeout, "validation": self.validation,
            "settings": self.settings or None,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


def _extent(table: Table, folder: Path, cells: Sequence[str], wanted: _Wanted) -> Extent | None:
    """What a budget comes to, if there is one; what was said or planned before is not cut."""
    if wanted.budget is None:
        return None
    known = _known(table, folder)
    extent = fitted(
        table, table.chosen(cells), budget=wanted.budget, seeds=wanted.seeds or _usual_seeds(known),
        fewer_seeds=known is None and wanted.seeds is None, fewer_cells=not cells,
    )  # fmt: skip
    limit = wanted.limit if known is None else known.limit
    return extent if limit is None else dataclasses.replace(extent, limit=limit)


def _known(table: Table, folder: Path) -> Plan | None:
    """The plan in the folder, if there is one."""
    return read_plan(table, folder) if (folder / PLAN).exists() else None


def _usual_seeds(known: Plan | None) -> int:
    return SEEDS if known is None else len(known.seeds)


@dataclass(frozen=True)
class _Making:
    """One call of :func:`make_plan`."""

    table: Table
    path: Path
    cells: tuple[str, ...]
    wanted: _Wanted
    extent: Extent | None
    data_root: str | Path | None
    device: str
    say: Callable[[str], None]
    weights: dict[str, Tensor] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse, before a folder is made or time is measured, whatever would be refused later."""
        plan = self.begun()
        for name in self.cells:
            plan.recipe(self.table, self.table.cell(name))
        if any(name not in plan.generations for name in self.cells):
            check_machine(self.table, self.data_root, self.device)

    def begun(self) -> Plan:
        """The plan in the folder with more seeds if wanted, or a new one without cells."""
        known = _known(self.table, self.path.parent)
        seeds = (self.wanted.seeds or _usual_seeds(known)) if self.extent is None else self.extent.seeds
        given = self.wanted.given(self.extent)
        if known is None:
            fit = {} if self.extent is None else {"limit": self.extent.limit}
            plan = Plan(self.table.name, tuple(range(seeds)), **(fit | given))
        else:
            self._compare(known, given)
            plan = dataclasses.replace(known, seeds=tuple(range(max(seeds, len(known.seeds)))))
        _check_sense(plan)
        return plan

    def _compare(self, known: Plan, given: dict[str, Any]) -> None:
        """Refuse what differs from the plan in the folder."""
        for name, value in given.items():
            before = getattr(known, name)
            if value != before:
                option, shown = _OPTIONS[name]
                how = f" (from --budget {self.wanted.budget:g}s)" if self._divides(name) else ""
                raise ConfigError(
                    f"{self.path}: was made with {option} {shown(before)}, not {shown(value)}{how}; leave the option "
                    "out to go on with the plan, or choose another --out."
                )
        for name in self.cells:
            if name in known.recipes:
                self._compare_recipe(known, name)

    def _divides(self, name: str) -> bool:
        return name == "train_seconds" and self.wanted.budget is not None

    def _compare_recipe(self, known: Plan, name: str) -> None:
        """Refuse a cell that was planned with other hyper-parameters; fields newer than the plan had their defaults."""
        before = {**Recipe().as_dict(), **known.recipes[name]}
        for key, value in known.recipe(self.table, self.table.cell(name)).as_dict().items():
            if value != before[key]:
                raise ConfigError(
                    f"{self.path}: cell {name} was planned with {key} = {before[key]}, now it has {key} = {value}; "
                    "results of both do not belong in one row, choose another --out."
                )

    def completed(self, plan: Plan) -> Plan:
        """The plan with all cells that are wanted."""
        pace, new = Pace(), [name for name in self.cells if name not in plan.generations]
        for name in new:
            plan = self._with_cell(plan, self.table.cell(name))
        if new and self.extent is not None and self.wanted.budget is not None:
            late = max(0.0, self.extent.training + self.extent.certification - self.wanted.budget)
            share = pace.share(self.extent.training, late)
            fitting = {name: max(1, round(share * plan.generations[name])) for name in new}
            plan = dataclasses.replace(plan, generations=plan.generations | fitting)
            self.say(self.extent.estimate(pace.spent, share, pace.slowdown))
        for name in self.cells:
            if name not in plan.recipes:
                recipe = plan.recipe(self.table, self.table.cell(name)).as_dict()
                plan = dataclasses.replace(plan, recipes={**plan.recipes, name: recipe})
        return plan

    def written(self) -> Plan:
        """The plan with all cells that are wanted, in the folder."""
        plan = self.completed(self.begun())
        content = json.dumps(plan.to_json(), indent=1).encode()
        if not self.path.exists() or self.path.read_bytes() != content:
            write_atomically(self.path, content)
        return plan

    def _with_cell(self, plan: Plan, cell: Cell) -> Plan:
        recipe = plan.recipe(self.table, cell)
        if plan.train_seconds is None:
            return dataclasses.replace(plan, generations={**plan.generations, cell.name: recipe.generations})
        self.say(f"measuring a generation of {cell.name}")
        center = self._start_weights(plan, cell.start) if cell.start else None
        seconds = generation_seconds(self._problem(plan, cell, recipe), cell.searcher, recipe, center=center)
        count = max(1, round(plan.train_seconds / seconds))
        return dataclasses.replace(
            plan,
            generations={**plan.generations, cell.name: count},
            generation_seconds={**plan.generation_seconds, cell.name: seconds},
        )

    def _start_weights(self, plan: Plan, name: str) -> Tensor:
        """About what a run that starts from this cell begins with, made once."""
        if name not in self.weights:
            cell = self.table.cell(name)
            recipe = plan.recipe(self.table, cell)
            self.weights[name] = brief_weights(self._problem(plan, cell, recipe), cell.searcher, recipe)
        return self.weights[name]

    def _problem(self, plan: Plan, cell: Cell, recipe: Recipe) -> CertifiedTrainingProblem:
        root = None if self.data_root is None else str(self.data_root)
        return resolve(self.table.problem)(
            eps=self.table.eps, method=cell.method, batch_size=recipe.batch_size, loss=recipe.loss,
            device=self.device, data_root=root, validation=plan.validation,
        )  # fmt: skip


def _seconds(value: float | None) -> str:
    return "as the recipes say" if value is None else f"{value:g}s"


def _assignments(settings: Mapping[str, Any]) -> str:
    return " --set ".join(f"{key}={value}" for key, value in settings.items()) or "(none)"


_OPTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "limit": ("--limit", str),
    "train_seconds": ("--train-time", _seconds),
    "timeout": ("--timeout", _seconds),
    "validation": ("--validation", str),
    "settings": ("--set", _assignments),
}
"""Fields of a plan as a user writes them."""


def _check_sense(plan: Plan) -> None:
    if 0 < plan.validation < plan.limit:
        raise ConfigError(
            f"--limit is {plan.limit}, but only {plan.validation} images are kept for validation; lower --limit, or "
            "raise --validation."
        )
    if plan.train_seconds is not None and "generations" in plan.settings:
        raise ConfigError(
            "--set generations=... and a time (--budget, --train-time) both say how long runs are; give one."
        )


def check_machine(table: Table, data_root: str | Path | None, device: str) -> None:
    """Refuse a device or data that are not there.

    Raises:
        ConfigError: the device is not.
        DataError: the data are not.
    """
    check_device(device)
    resolve(table.problem).find_data(None if data_root is None else str(data_root))


@contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock, waiting for it."""
    told = False
    while True:
        try:
            lock = FolderLock(folder / ".lock")
            break
        except BusyError:
            if not told:
                say(f"{folder}: another process plans in it, waiting for that")
            told = True
            time.sleep(WAIT)
    try:
        yield
    finally:
        lock.release()
