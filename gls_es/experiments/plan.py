"""What exactly is run, kept beside the results, so that every process agrees on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gls_es.errors import ConfigError, DataError
from gls_es.experiments.tables import Cell, Table
from gls_es.problem.recipe import Recipe
from gls_es.problem.registry import resolve
from gls_es.searchers.table import DEFAULTS
from gls_es.training.settings import stretched

SEEDS = 3
"""Runs per cell of a new plan, if nothing is said."""
PLAN = "plan.json"
"""Where a plan is kept, in its table's folder."""


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
        recipes: the hyper-parameters that each cell was planned with, every field of them.
    """

    table: str
    seeds: tuple[int, ...]
    limit: int = 1000
    train_seconds: float | None = None
    timeout: float = 2.0
    validation: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    generation_seconds: dict[str, float] = field(default_factory=dict)
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def recipe(self, table: Table, cell: Cell) -> Recipe:
        """The hyper-parameters of a cell's runs: for as many generations as were settled, if they were.

        Raises:
            ConfigError: settings that make no sense.
        """
        recipe = _over(_over(base_recipe(table, cell), cell.settings), self.settings)
        return stretched(recipe, self.generations.get(cell.name, recipe.generations))

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return dataclasses.asdict(self)


def base_recipe(table: Table, cell: Cell) -> Recipe:
    """The problem's recipe for the searcher of a cell."""
    return resolve(table.problem).recipes.get(cell.searcher, DEFAULTS[cell.searcher])


def _over(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with these settings; a number of generations makes it longer or shorter, phases and all, first."""
    generations = recipe.replaced(generations=settings.get("generations", recipe.generations)).generations
    return stretched(recipe, generations).replaced(**settings)


def read_plan(table: Table, folder: Path) -> Plan:
    """The plan in a table's folder; what an older one lacks has its default.

    Raises:
        ConfigError: there is none, or it is another table's.
        DataError: it cannot be read.
    """
    path = folder / PLAN
    if not path.exists():
        raise ConfigError(f"{folder}: has no {PLAN}, nothing of table {table.name!r} was run there; check --out.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        plan = Plan(**{**found, "seeds": tuple(found["seeds"])})
        if not all(isinstance(getattr(plan, name), dict) for name in _MAPPINGS):
            raise TypeError(f"{', '.join(_MAPPINGS)} must be objects")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read as a plan ({error}); put its last good version back, or choose another --out."
        ) from error
    if plan.table != table.name:
        raise ConfigError(f"{path}: is the plan of table {plan.table!r}, not {table.name!r}; choose another --out.")
    return plan


_MAPPINGS = ("settings", "generations", "generation_seconds", "recipes")
