"""The report's plots, each an SVG text to be put into the page; every axis has its unit, every line its name."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gls_es.report.run import RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("loss on the minibatch (nats)", (("mean_loss", ""),)),
    ("accuracy of the center (%)", (("natural_accuracy", "natural"), ("certified_accuracy", "certified"))),
    ("radius eps (pixel units)", (("eps", ""),)),
    ("noise σ (weight units)", (("stdev", ""),)),
)
"""Training's panels: the axis label, and the columns drawn in it with what distinguishes them."""

_STYLES = ("-", "--", ":", "-.")
_MOST = 2000  # points of a line: more cannot be seen, and make a heavy page


def training_curves(runs: Sequence[RunData]) -> list[str]:
    """Loss, accuracies, radius and noise against generations, a picture each, all runs in each of them."""
    from matplotlib.figure import Figure

    pictures = []
    for label, columns in PANELS:
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axis = figure.subplots()
        for number, run in enumerate(runs):
            for style, (column, what) in zip(_STYLES, columns, strict=False):
                _line(axis, run, column, name=" ".join(filter(None, (run.name, what))), style=style, colour=number)
        axis.set_xlabel("generation")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
            pictures.append(_svg(figure, salt=label))
    return pictures


def _line(axis: Axes, run: RunData, column: str, *, name: str, style: str, colour: int) -> None:
    generations, values = run.series(column)
    step = max(1, len(values) // _MOST)
    scale = 100.0 if column.endswith("accuracy") else 1.0
    if values:
        shown = [scale * value for value in values[::step]]
        axis.plot(generations[::step], shown, style, color=f"C{colour % 10}", label=name, linewidth=1.3)


def accuracy_curve(runs: Sequence[RunData]) -> str | None:
    """Adversarial and certified accuracy against the radius, where a run was certified at two radii or more."""
    several = [(number, run) for number, run in enumerate(runs) if len(run.records) > 1]
    if not several:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axis = figure.subplots()
    for number, run in several:
        radii = [records.eps for records in run.records]
        certified = [100 * r.fraction("misclassified", "falsified", "unknown") for r in run.records]
        adversarial = [100 * r.fraction("misclassified", "falsified") for r in run.records]
        colour = f"C{number % 10}"
        axis.plot(radii, certified, "o-", color=colour, label=f"{run.name} certified")
        axis.plot(radii, adversarial, "s--", color=colour, label=f"{run.name} adversarial")
    axis.set_xlabel("radius eps (pixel units)")
    axis.set_ylabel("accuracy (%)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return _svg(figure, salt="radius")


def _svg(figure: Any, *, salt: str) -> str:
    """The figure as SVG with real text, without the XML head, and scalable to the page's width.

    The salt keeps the ids of several pictures in one page apart.
    """
    from matplotlib import rc_context

    target = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(target, format="svg", metadata={"Date": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r"<svg \1\2", text, count=1)
