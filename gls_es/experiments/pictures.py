"""A table as a picture: certified against natural accuracy, and certified accuracy over the size of the noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gls_es.basics.plots import save_figure
from gls_es.experiments.aggregate import Row
from gls_es.experiments.tables import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {"grad": "o", "rgs": "s", "pgpe": "^"}
NATURAL, CERTIFIED = "natural_accuracy", "certified_accuracy"


def save_table(rows: Sequence[Row], path: Path, *, title: str) -> None:
    """Draw rows into a file, see :func:`table_figure`; its ending is one of :data:`gls_es.basics.plots.FORMATS`.

    Raises:
        ConfigError: it has another ending.
        DataError: the file cannot be written.
    """
    save_figure(table_figure(rows, title=title), path)


def table_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Both accuracies of every row with results, a marker a searcher and a colour a relaxation.

    Bars are sample standard deviations over seeds. Published numbers are stars where both accuracies are known, and
    dotted lines where only the certified one is. A second panel has certified accuracy over σ, if there are at least
    two sizes of it.
    """
    from matplotlib.figure import Figure  # loads for half a second

    known = [row for row in rows if row.n]
    colours = {method: f"C{i}" for i, method in enumerate(dict.fromkeys(row.cell.method for row in rows))}
    lines = sweeps(known)
    figure = Figure(figsize=(11.0 if lines else 5.8, 4.4), layout="constrained")
    panels = figure.subplots(1, 2 if lines else 1, squeeze=False)[0]
    _accuracies(panels[0], known, colours)
    if lines:
        _noise(panels[1], known, lines, colours)
    figure.suptitle(title, fontsize=10)
    return figure


def _accuracies(axis: Axes, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    for row in rows:
        point = [100 * row.mean[name] for name in (NATURAL, CERTIFIED)]
        bars = [100 * (row.stdev[name] or 0.0) for name in (NATURAL, CERTIFIED)]
        style = {"fmt": _MARKERS[row.cell.searcher], "color": colours[row.cell.method], "markersize": 4}
        axis.errorbar(point[0], point[1], xerr=bars[0], yerr=bars[1], elinewidth=0.8, **style)  # type: ignore[arg-type]
        axis.annotate(row.cell.name, (point[0], point[1]), (3, 3), textcoords="offset points", fontsize=6)
        published, colour = row.cell.published, colours[row.cell.method]
        if published.certified is not None and published.natural is not None:
            axis.plot(100 * published.natural, 100 * published.certified, "*", color=colour, markersize=10)
        elif published.certified is not None:
            axis.axhline(100 * published.certified, linestyle=":", color=colour, linewidth=0.8)
    axis.set_xlabel("natural accuracy (%)")
    axis.set_ylabel("certified accuracy (%)")
    axis.grid(alpha=0.3)


def sweeps(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By relaxation, the rows of ``rgs`` that differ in the size of absolute noise alone, by rising σ.

    The others' settings are those of the cell ``rgs-RELAXATION``; relaxations with fewer than two are left out.
    """
    found: dict[str, list[Row]] = {}
    usual = {row.cell.method: _besides_noise(row.cell) for row in rows if row.cell.name == f"rgs-{row.cell.method}"}
    for row in sorted(rows, key=lambda row: row.cell.settings.get("stdev_init", 0.0)):
        cell = row.cell
        if cell.searcher == "rgs" and not cell.start and _besides_noise(cell) == usual.get(cell.method):
            found.setdefault(cell.method, []).append(row)
    return {method: line for method, line in found.items() if len({_sigma(row) for row in line}) > 1}


def _besides_noise(cell: Cell) -> dict[str, object]:
    return {name: value for name, value in cell.settings.items() if name != "stdev_init"}


def _sigma(row: Row) -> float:
    return float(row.cell.settings.get("stdev_init", 0.0))


def _noise(axis: Axes, rows: Sequence[Row], lines: Mapping[str, Sequence[Row]], colours: Mapping[str, str]) -> None:
    for method, line in lines.items():
        means = [100 * row.mean[CERTIFIED] for row in line]
        bars = [100 * (row.stdev[CERTIFIED] or 0.0) for row in line]
        name = f"rgs, {method}"
        axis.errorbar([_sigma(r) for r in line], means, yerr=bars, fmt="s-", color=colours[method], label=name)
    for row in rows:
        if row.cell.name == f"grad-{row.cell.method}":
            level, colour = 100 * row.mean[CERTIFIED], colours[row.cell.method]
            axis.axhline(level, linestyle="--", color=colour, linewidth=0.9, label=f"grad, {row.cell.method}")
    axis.set_xscale("log")
    axis.set_xlabel("σ (weight units)")
    axis.set_ylabel("certified accuracy (%)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
