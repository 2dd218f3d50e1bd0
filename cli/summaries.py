"""What a person sees of a certification: stages, accuracies with their intervals, and certified radii."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .output import percent, plain_table

_ACCURACIES = {
    "natural_accuracy": "natural",
    "adversarial_accuracy": "adversarial (upper limit of the robust accuracy)",
    "certified_accuracy": "certified (lower limit)",
}


def radius_tables(summary: Mapping[str, Any], where: str) -> list[Any]:
    """The stages and the accuracies at one radius.

    Args:
        summary: ``CertificationReport.to_json()`` with the problem's name.
        where: which images they are.
    """
    from rich.table import Table
    from rich.text import Text

    n = summary["n"]
    stages = plain_table()
    columns = list(dict.fromkeys(name for stage in summary["stages"].values() for name in stage))
    stages.add_column("stage")
    for column in columns:
        stages.add_column(column, justify="right")
    for name, stage in summary["stages"].items():
        stages.add_row(name, *(_cell(stage.get(column)) for column in columns))
    accuracies = Table(box=None, pad_edge=False, show_header=False)
    for key, name in _ACCURACIES.items():
        interval = _interval(summary["intervals_95"][key])
        accuracies.add_row(name, Text(percent(summary[key])), Text(f"{round(summary[key] * n)} of {n}"), Text(interval))
    unknown = summary["unknown"]
    accuracies.add_row("unknown", Text(percent(unknown / n)), Text(f"{unknown} of {n}"), Text("not certified"))
    head = f"{summary['problem']}: {n} images {where}, eps = {summary['eps']:.6g}"
    return [Text(head), Text(""), stages, Text(""), accuracies, Text(f"\n{summary['seconds']:.1f} seconds")]


def overview(summaries: Sequence[Mapping[str, Any]], where: str) -> list[Any]:
    """A line for each of several radii."""
    from rich.text import Text

    table = plain_table()
    for column in ("eps", "natural", "adversarial", "certified", "Wilson 95 %", "unknown", "seconds"):
        table.add_column(column, justify="right")
    for summary in summaries:
        table.add_row(
            f"{summary['eps']:.6g}",
            *(percent(summary[key]) for key in _ACCURACIES),
            _interval(summary["intervals_95"]["certified_accuracy"]),
            str(summary["unknown"]),
            f"{summary['seconds']:.1f}",
        )
    return [Text(f"{summaries[0]['problem']}: {summaries[0]['n']} images {where}"), Text(""), table]


def radii_tables(summary: Mapping[str, Any], where: str) -> list[Any]:
    """How many images have which certified radius."""
    from rich.text import Text

    n = summary["n"]
    table = plain_table()
    for column in ("eps", "certified", "", "adversarial", ""):
        table.add_column(column, justify="right")
    for tenth in range(11):
        steps = round(tenth * summary["largest"] / summary["tolerance"] / 10)
        eps = steps * summary["tolerance"]
        certified = sum(image["radius"] is not None and image["radius"] >= eps for image in summary["images"])
        standing = sum(image["falsified"] is None or image["falsified"] > eps for image in summary["images"])
        table.add_row(f"{eps:.4g}", percent(certified / n), f"{certified}", percent(standing / n), f"{standing}")
    head = f"{summary['problem']}: {n} images {where}, largest certified radii to {summary['tolerance']:.4g}"
    end = f"\nmean radius {summary['mean_radius']:.4g}, median {summary['median_radius']:.4g} (0 if there is none)"
    return [Text(head), Text(""), table, Text(end), Text(f"{summary['seconds']:.1f} seconds")]


def _interval(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f} to {percent(ends[1])}"


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
