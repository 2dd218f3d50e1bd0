"""What all pictures share: width, colours, styles, and the file that is written."""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.figure import Figure

WIDTH = 8.0  # inches: 10 points of text are 14 pixels when a picture is shown 800 pixels wide

# The colours of Okabe and Ito, which the colour blind tell apart; line styles and markers do it in grey.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#808080"
LOOK: dict[Any, Any] = {
    "font.size": 10,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the first one that a viewer has
    "axes.titlesize": 11,
    "legend.fontsize": 9,
    "legend.framealpha": 0.9,
    "svg.fonttype": "none",  # text stays text: short files, and words that can be found
}
STYLES: dict[str, dict[str, Any]] = {
    "ibp": {"color": ORANGE, "linestyle": "--", "marker": "o"},
    "hbox": {"color": SKY, "linestyle": (0, (3, 1, 1, 1)), "marker": "s"},
    "crown-ibp": {"color": PURPLE, "linestyle": "-.", "marker": "^"},
    "deepz": {"color": GREEN, "linestyle": ":", "marker": "D"},
    "crown": {"color": BLUE, "linestyle": "-", "marker": "v"},
    "best": {"color": RED, "linestyle": (0, (6, 1)), "marker": "*"},
}


def figure_of(rows: int, columns: int, *, height: float, **options: Any) -> tuple[Figure, Any]:
    """A figure of the common width, ``height`` inches high, and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def svg_of(figure: Figure) -> str:
    """The picture as text, shorter than matplotlib writes it: two decimals of a point in tags, no indentation."""
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), target.getvalue())
    return "".join(f"{line.strip()}\n" for line in text.splitlines())
