"""What is compared: for each table a problem, a radius, and cells of searcher x relaxation, with published numbers.

Published numbers are those of arXiv 2403.07095 as its public reviews quote them (version 3); most cells of its tables
are not publicly readable, and for those nothing is filled in. "deeppoly" of the paper is ``crown`` here.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gls_es.basics.suggestions import unknown
from gls_es.errors import ConfigError


@dataclass(frozen=True)
class Published:
    """A number in print.

    Attributes:
        natural: natural accuracy, a fraction, or None where it is not known.
        certified: certified accuracy, a fraction, or None.
    """

    natural: float | None = None
    certified: float | None = None


@dataclass(frozen=True)
class Cell:
    """One way to train.

    Attributes:
        name: how results are filed.
        searcher: "grad", "rgs" or "pgpe".
        method: the relaxation.
        settings: recipe fields that differ from the problem's recipe for this searcher; ends of phases are
            generations of the whole recipe's number, and keep their share when a run is longer or shorter.
        published: the paper's numbers, if known.
        start: name of the cell whose result, of the same seed, gives the initial weights; empty for random ones.
        kind: "comparison", "baseline", or "further" for what is run only if it is named.
    """

    name: str
    searcher: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: Published = Published()
    start: str = ""
    kind: str = "comparison"


@dataclass(frozen=True)
class Table:
    """Cells on one problem at one radius.

    Attributes:
        name: what ``gls-es reproduce`` takes.
        title: one line for people.
        problem: a registered problem.
        eps: the radius, in pixel units.
        cells: what is compared.
    """

    name: str
    title: str
    problem: str
    eps: float
    cells: tuple[Cell, ...]

    def cell(self, name: str) -> Cell:
        """The cell called ``name``.

        Raises:
            ConfigError: there is none.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise self._no_cell(name)

    def chosen(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """The names of the cells that any of the patterns fits, and of the cells that they start from, in order.

        Args:
            patterns: names, in which * stands for anything; none means all but those of the kind "further".

        Raises:
            ConfigError: a pattern fits nothing.
        """
        for pattern in patterns:
            if not fnmatch.filter(self.cell_names, pattern):
                raise self._no_cell(pattern)
        usual = [cell.name for cell in self.cells if cell.kind != "further"]
        names = {name for pattern in patterns for name in fnmatch.filter(self.cell_names, pattern)} or set(usual)
        names |= {self.cell(name).start for name in names} - {""}
        return tuple(name for name in self.cell_names if name in names)

    def _no_cell(self, name: str) -> ConfigError:
        return unknown(name, self.cell_names, f"table {self.name!r} has no cell", offer="choose among")

    @property
    def cell_names(self) -> tuple[str, ...]:
        """The names of all cells, in order."""
        return tuple(cell.name for cell in self.cells)


SEARCHERS = ("grad", "rgs", "pgpe")
METHODS = ("ibp", "crown-ibp", "crown-unstable", "crown")
_KINDS = {"crown-unstable": "further"}


SHORT: Mapping[str, Mapping[str, Any]] = {
    "grad": {"batch_size": 32},
    "grad-ibp": {"batch_size": 128},
    "grad-ibp-from-ibp": {"batch_size": 128},
    "grad-crown-ibp-from-ibp": {"batch_size": 64},
    "grad-crown-unstable-from-ibp": {"batch_size": 64},
    "grad-crown-from-ibp": {"batch_size": 64},
    "rgs": {"batch_size": 32, "popsize": 1, "warmup_method": "", "main_method": ""},
    "rgs-ibp": {"batch_size": 128},
    "rgs-ibp-from-ibp": {"batch_size": 128, "stdev_init": 0.003},
    "rgs-crown-ibp-from-ibp": {"batch_size": 64, "stdev_init": 0.003},
    "rgs-crown-unstable-from-ibp": {"batch_size": 64, "stdev_init": 0.003},
    "rgs-crown-from-ibp": {"batch_size": 64, "stdev_init": 0.003},
    "pgpe": {
        "batch_size": 32,
        "popsize": 32,
        "stdev_init": 0.005,
        "center_learning_rate": 0.004,
        "natural_until": 1200,
        "ramp_until": 3600,
    },
    "pgpe-crown-ibp": {"batch_size": 16, "natural_until": 2000},
    "pgpe-crown-unstable": {"batch_size": 16, "natural_until": 2800},
    "pgpe-crown": {"batch_size": 16, "natural_until": 2800},
    "pgpe-ibp-from-ibp": {"stdev_init": 0.003, "center_learning_rate": 0.0003},
    "pgpe-crown-ibp-from-ibp": {"stdev_init": 0.003, "center_learning_rate": 0.0003},
    "pgpe-crown-unstable-from-ibp": {"stdev_init": 0.003, "center_learning_rate": 0.0003},
    "pgpe-crown-from-ibp": {"stdev_init": 0.003, "center_learning_rate": 0.0003},
}
"""For minutes on a CPU, where the number of steps decides. Chosen by runs of 100 to 150 s of training on MNIST at 0.1
that were certified on 2,000 images of a validation split (docs/results.md); the other tables take them over."""

BASELINES = ("natural", "adversarial", "sabr", "mtl-ibp")
"""Losses of other trainings, followed by gradients; bounds are intervals where they have any."""

START = "grad-ibp"
FROM_START: Mapping[str, Any] = {
    "natural_until": 0,
    "ramp_until": 0,
    "natural_weight_start": 0.0,
    "center_learning_rate": 0.0005,
    "average_decay": 0.998,
}
"""A trained network goes on: at the full radius at once, with small steps and averaged, so as not to be thrown back."""


def _comparison(
    published: Mapping[str, Published], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Cell, ...]:
    """The paper's comparison, every searcher with every relaxation, and the baselines.

    Further cells: a relaxation of ours, and everything on from gradients on intervals. ``settings`` are those of a
    searcher, or of one cell over them.
    """
    given = settings or {}
    pairs = [(searcher, method, f"{searcher}-{method}") for searcher in SEARCHERS for method in METHODS]
    cells = [
        Cell(name, searcher, method, _merged(given, searcher, name), kind=_KINDS.get(method, "comparison"))
        for searcher, method, name in pairs
    ]
    for searcher, method, pair in pairs:
        name = f"{pair}-from-ibp"
        own = {**_merged(given, searcher), **FROM_START, **given.get(name, {})}
        cells.append(Cell(name, searcher, method, own, start=START, kind="further"))
    for loss in BASELINES:
        own = {**_merged(given, "grad", f"grad-{loss}"), "loss": loss}
        cells.append(Cell(f"grad-{loss}", "grad", "ibp", own, kind="baseline"))
    return tuple(replace(cell, published=published.get(cell.name, Published())) for cell in cells)


def _merged(settings: Mapping[str, Mapping[str, Any]], *names: str) -> dict[str, Any]:
    """The settings under these names, the last ones over the first ones."""
    return {key: value for name in names for key, value in settings.get(name, {}).items()}


_ALL = (
    Table("digits-0.1", "8x8 digits, CNN3 of 1,258 parameters, eps 0.1", "digits-cnn3", 0.1, _comparison({})),
    Table(
        "mnist-0.1",
        "MNIST, CNN3, eps 0.1 (arXiv 2403.07095, table 1)",
        "mnist-cnn3",
        0.1,
        _comparison({"grad-crown": Published(certified=0.9004)}, SHORT),
    ),
    Table(
        "mnist-0.3",
        "MNIST, CNN3, eps 0.3 (arXiv 2403.07095, table 1)",
        "mnist-cnn3",
        0.3,
        _comparison({"grad-ibp": Published(certified=0.7723), "pgpe-crown": Published(certified=0.7428)}, SHORT),
    ),
    Table(
        "cifar-2",
        "CIFAR-10, CNN3, eps 2/255 (arXiv 2403.07095, table 1)",
        "cifar-cnn3",
        2 / 255,
        _comparison({"grad-ibp": Published(natural=0.4805, certified=0.3769)}, SHORT),
    ),
    Table(
        "cifar-8",
        "CIFAR-10, CNN3, eps 8/255 (arXiv 2403.07095, table 1)",
        "cifar-cnn3",
        8 / 255,
        _comparison({"grad-ibp": Published(certified=0.2572), "pgpe-crown": Published(certified=0.2219)}, SHORT),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
"""Every table by name."""
