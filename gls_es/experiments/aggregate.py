"""From results of single runs to a table: mean, standard deviation and number of runs, beside the published numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gls_es.experiments.paired import Comparison, Difference
from gls_es.experiments.plan import Plan
from gls_es.experiments.tables import Cell, Table

ACCURACIES = ("natural_accuracy", "adversarial_accuracy", "certified_accuracy")


@dataclass(frozen=True)
class Row:
    """One cell of a table over its seeds.

    Attributes:
        cell: the cell.
        n: finished runs.
        images: images certified in each.
        mean: mean accuracy by name, fractions; empty if n is 0.
        stdev: sample standard deviation over seeds by name; None with fewer than two runs.
        unknown: mean fraction of undecided images.
        cpu_seconds: mean processor time of training, over runs that were not interrupted, that of the runs they
            started from included; None if all were.
        generations: of each run.
        seen: images that training drew for each run, those of the run it started from included.
    """

    cell: Cell
    n: int
    images: int
    mean: Mapping[str, float]
    stdev: Mapping[str, float | None]
    unknown: float | None
    cpu_seconds: float | None
    generations: int | None
    seen: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain values."""
        published = self.cell.published
        return {
            "cell": self.cell.name,
            "n": self.n,
            "images": self.images,
            "mean": dict(self.mean),
            "stdev": dict(self.stdev),
            "unknown": self.unknown,
            "cpu_seconds": self.cpu_seconds,
            "generations": self.generations,
            "seen": self.seen,
            "published": {"natural": published.natural, "certified": published.certified},
        }


def aggregate(table: Table, results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for every cell of the table, in its order; cells without results have n = 0."""
    times = {(run["cell"], run["seed"]): run["training"]["cpu_seconds"] for run in results}
    seen = {
        run["cell"]: run["training"]["generations"] * run["recipe"]["batch_size"] for run in results if "recipe" in run
    }
    rows = [_row(cell, [r for r in results if r["cell"] == cell.name], times) for cell in table.cells]
    return [replace(row, seen=_sum_of(seen, row.cell.name, row.cell.start)) for row in rows]


def _sum_of(seen: Mapping[str, int], *names: str) -> int | None:
    """Of a cell and the one it starts from; None if one of them is not known."""
    known = [seen[name] for name in names if name in seen]
    return sum(known) if len(known) == sum(map(bool, names)) else None


def _row(cell: Cell, runs: Sequence[Mapping[str, Any]], cpu: Mapping[tuple[str, int], float | None]) -> Row:
    if not runs:
        return Row(cell, 0, 0, {}, {}, None, None, None)
    summaries = [run["certification"] for run in runs]
    values = {name: [float(s[name]) for s in summaries] for name in ACCURACIES}
    times = [seconds for seconds in (_cpu_seconds(cell, run["seed"], cpu) for run in runs) if seconds is not None]
    return Row(
        cell=cell,
        n=len(runs),
        images=min(s["n"] for s in summaries),
        mean={name: statistics.fmean(v) for name, v in values.items()},
        stdev={name: statistics.stdev(v) if len(v) > 1 else None for name, v in values.items()},
        unknown=statistics.fmean(s["unknown"] / s["n"] for s in summaries),
        cpu_seconds=statistics.fmean(times) if times else None,
        generations=runs[0]["training"]["generations"],
    )


def _cpu_seconds(cell: Cell, seed: int, cpu: Mapping[tuple[str, int], float | None]) -> float | None:
    """Of a run and the one that it started from; None if one of them is not known."""
    parts = [cpu.get((name, seed)) for name in (cell.name, cell.start) if name]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def conditions(plan: Plan) -> str:
    """What the numbers of a plan's table are about, in a sentence or two."""
    split = "validation" if plan.validation else "test"
    length = "as long as the recipes say" if plan.train_seconds is None else f"{plan.train_seconds:.4g} s as planned"
    settings = ", ".join(f"{name} = {value}" for name, value in plan.settings.items())
    return (
        f"Certified: at most the first {plan.limit} {split} images, with up to {plan.timeout:g} s of search for each. "
        f"Training of each run: {length}." + (f" Settings of all runs: {settings}." if settings else "")
    )


def markdown(table: Table, plan: Plan, rows: Sequence[Row], differences: Sequence[Comparison] = ()) -> str:
    """The rows as a Markdown table, accuracies in percent, mean ± standard deviation over n seeds.

    Below it, if there are any, the differences to the best cell with gradients in a table of their own.
    """
    lines = [
        "| cell | natural | adversarial | certified | unknown | n | generations | CPU s | paper (nat / cert) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(cells_of(row))} |" for row in rows]
    if differences:
        lines += ["", differences_title(differences) + ".", "", f"| {' | '.join(DIFFERENCE_COLUMNS)} |"]
        lines += ["|---" * len(DIFFERENCE_COLUMNS) + "|"]
        lines += [f"| {' | '.join(cells_of_difference(found))} |" for found in differences]
    return f"{table.title}\n\n{conditions(plan)}\n\n" + "\n".join(lines) + "\n"


DIFFERENCE_COLUMNS = ("cell", "certified", "images + / -", "p", "natural", "images + / -", "p", "seeds")


def differences_title(differences: Sequence[Comparison]) -> str:
    """What the differences are about, in a sentence without its point."""
    return (
        f"Differences to {differences[0].reference}, the best cell with gradients, in points, on the same images under "
        "the same seeds: bootstrap interval of 95 % over seeds and images, images won and lost, McNemar's exact p"
    )


def cells_of_difference(found: Comparison) -> list[str]:
    """The texts of a comparison, in the order of :data:`DIFFERENCE_COLUMNS`."""
    return [found.cell, *_difference(found.certified), *_difference(found.natural), str(len(found.seeds))]


def _difference(found: Difference) -> list[str]:
    low, high = 100 * found.low, 100 * found.high
    return [f"{100 * found.mean:+.1f} ({low:+.1f} to {high:+.1f})", f"{found.ahead} / {found.behind}", f"{found.p:.2g}"]


def cells_of(row: Row) -> list[str]:
    """The texts of a row, in the order of the columns of :func:`markdown`."""
    published = row.cell.published
    paper = "-"
    if published.natural is not None or published.certified is not None:
        paper = f"{_percent(published.natural)} / {_percent(published.certified)}"
    if row.n == 0:
        return [row.cell.name, "-", "-", "-", "-", "0", "-", "-", paper]
    accuracies = [_spread(row.mean[name], row.stdev[name]) for name in ACCURACIES]
    time = "-" if row.cpu_seconds is None else f"{row.cpu_seconds:.0f}"
    middle = [_percent(row.unknown), str(row.n), str(row.generations), time]
    return [row.cell.name, *accuracies, *middle, paper]


def _spread(mean: float, stdev: float | None) -> str:
    return f"{100 * mean:.1f}" if stdev is None else f"{100 * mean:.1f} ± {100 * stdev:.1f}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}".removesuffix("0").removesuffix(".0")
