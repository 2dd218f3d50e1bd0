"""What exactly will be run, settled before the first run and kept beside the results: every process agrees on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gls_es.errors import ConfigError, DataError
from gls_es.experiments.budget import generation_seconds
from gls_es.experiments.tables import Cell, Table
from gls_es.recipe import Recipe
from gls_es.registry import resolve
from gls_es.searchers.table import DEFAULTS
from gls_es.training.atomic import write_atomically
from gls_es.training.settings import stretched

TRAINING_SHARE = 0.75
"""The part of a budget that training gets; certification gets the rest."""


@dataclass(frozen=True)
class Plan:
    """A table's runs.

    Attributes:
        table: the table's name.
        seeds: one run of every cell for each.
        limit: images to certify, the first ones of the test set.
        train_seconds: time that each run's training gets, of this machine's threads; None: the recipes' own length.
        timeout: seconds that the search of certification may take for one image.
        validation: training images that no run sees; what is certified are the first ``limit`` of them, not test
            images, so that settings can be chosen. 0: all are trained on, and test images are certified.
        settings: recipe fields of all runs, over those of the cells.
        generations: of each cell.
        generation_seconds: what a generation was measured to take, by cell; empty if nothing was measured.
    """

    table: str
    seeds: tuple[int, ...]
    limit: int
    train_seconds: float | None
    timeout: float
    validation: int
    settings: dict[str, Any]
    generations: dict[str, int]
    generation_seconds: dict[str, float]

    def recipe(self, table: Table, cell: Cell) -> Recipe:
        """The hyper-parameters of a cell's runs: for as many generations as were settled, if they were.

        Raises:
            ConfigError: settings that make no sense.
        """
        base = resolve(table.problem).recipes.get(cell.searcher, DEFAULTS[cell.searcher])
        recipe = base.replaced(**{**cell.settings, **self.settings})
        return stretched(recipe, self.generations.get(cell.name, recipe.generations))

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return dataclasses.asdict(self)


def make_plan(
    table: Table,
    folder: Path,
    *,
    cells: Sequence[str] = (),
    seeds: int = 3,
    limit: int = 1000,
    budget: float | None = None,
    train_seconds: float | None = None,
    timeout: float = 2.0,
    validation: int = 0,
    settings: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    device: str = "cpu",
    keep: bool = True,
    say: Callable[[str], None] = lambda _line: None,
) -> Plan:
    """The plan in ``folder``, or a new one that is written there.

    Cells that an existing plan lacks are added to it; everything else in it stays, and options that contradict it are
    refused, because numbers of different budgets do not belong in one table.

    Args:
        table: what is compared.
        folder: where the table's results go.
        cells: names of cells, in which * stands for anything, also those that they start from; none means all.
        seeds: runs per cell, with seeds 0, 1, ....
        limit: images to certify.
        budget: seconds for everything together; divided equally over the runs.
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
        DataError: the plan in the folder cannot be read.
    """
    chosen = [table.cell(name) for name in table.chosen(cells)]
    if 0 < validation < limit:
        raise ConfigError(f"limit is {limit}, but only {validation} images are kept for validation; lower the limit.")
    if budget is not None and train_seconds is not None:
        raise ConfigError("give a budget for everything or seconds of training per run, not both.")
    if budget is not None:
        train_seconds = TRAINING_SHARE * budget / (len(chosen) * seeds)
    path = folder / "plan.json"
    known = _read(path) if path.exists() else None
    options = {"limit": limit, "timeout": timeout, "validation": validation, "train_seconds": train_seconds}
    plan = _begun(table, known, path, seeds=seeds, settings=settings, **options)
    for cell in chosen:
        if cell.name not in plan.generations:
            plan = _with_cell(plan, table, cell, data_root=data_root, device=device, say=say)
    if keep and plan != known:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(plan.to_json(), indent=1).encode())
    return plan


def _read(path: Path) -> Plan:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Plan(**{**found, "seeds": tuple(found["seeds"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a plan ({error}); delete the folder to start afresh.") from error


def _begun(
    table: Table, known: Plan | None, path: Path, *, seeds: int, settings: Mapping[str, Any] | None, **options: Any
) -> Plan:
    """A new plan without cells, or the known one with more seeds if nothing else differs; what is None may differ."""
    if known is None:
        wanted = dict(settings or {})
        return Plan(table.name, tuple(range(seeds)), settings=wanted, generations={}, generation_seconds={}, **options)
    if known.table != table.name:
        raise ConfigError(f"{path}: is the plan of table {known.table!r}, not {table.name!r}; choose another folder.")
    for name, value in {**options, "settings": settings or None}.items():
        before = getattr(known, name)
        if value is not None and value != before:
            raise ConfigError(
                f"{path}: was made with {name.replace('_', ' ')} = {before}, not {value}; leave the option as it was, "
                "or choose another folder."
            )
    return dataclasses.replace(known, seeds=tuple(range(max(seeds, len(known.seeds)))))


def _with_cell(
    plan: Plan,
    table: Table,
    cell: Cell,
    *,
    data_root: str | Path | None,
    device: str,
    say: Callable[[str], None],
) -> Plan:
    recipe = plan.recipe(table, cell)
    if plan.train_seconds is None:
        return dataclasses.replace(plan, generations={**plan.generations, cell.name: recipe.generations})
    say(f"measuring a generation of {cell.name}")
    root = None if data_root is None else str(data_root)
    problem = resolve(table.problem)(
        eps=table.eps, method=cell.method, batch_size=recipe.batch_size, loss=recipe.loss, device=device,
        data_root=root, validation=plan.validation,
    )  # fmt: skip
    seconds = generation_seconds(problem, cell.searcher, recipe)
    count = max(1, round(plan.train_seconds / seconds))
    return dataclasses.replace(
        plan,
        generations={**plan.generations, cell.name: count},
        generation_seconds={**plan.generation_seconds, cell.name: seconds},
    )
