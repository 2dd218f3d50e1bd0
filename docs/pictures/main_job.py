"""What the README's main job does: accuracies while it trains, and certified accuracy against the radius afterwards.

The numbers are those of one run's own log and of the radii that were found for its network. They lie beside this file
as ``main_job.json``; ``docs/read_main_job.py`` makes that file anew from a run folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pictures.look import BLUE, GREY, ORANGE, RED, figure_of

DATA = Path(__file__).with_name("main_job.json")


def numbers() -> dict[str, Any]:
    """What is shown: ``training`` rows, ``eps`` rows, ``radii`` and the run's ``eps_certified``."""
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def draw() -> Figure:
    """Left the training, right the network."""
    shown = numbers()
    figure, (left, right) = figure_of(1, 2, height=3.1)
    _training(left, shown)
    _radii(right, shown)
    return figure


def _training(axis: Any, shown: dict[str, Any]) -> None:
    rows = shown["training"]
    generations = [row["generation"] for row in rows]
    for key, name, colour in (("natural", "natural", ORANGE), ("certified", "certified at ε = 0.1", BLUE)):
        axis.plot(generations, [100 * row[key] for row in rows], color=colour, label=name)
    axis.set(xlabel="generation", ylabel="held-out digits (%)", ylim=(0, 102), title="Training")
    other = axis.twinx()
    other.plot([g for g, _ in shown["eps"]], [e for _, e in shown["eps"]], color=GREY, linestyle=":", label="ε trained")
    other.set(ylim=(0, 0.25), ylabel="ε, dotted")
    axis.legend(loc="lower right")


def _radii(axis: Any, shown: dict[str, Any]) -> None:
    eps, n = shown["radii"]["eps"], shown["radii"]["n"]
    axis.step(eps, [100 * c / n for c in shown["radii"]["adversarial"]], where="post", color=RED, linestyle="--",
              label="adversarial: no attack found")  # fmt: skip
    axis.step(
        eps, [100 * c / n for c in shown["radii"]["certified"]], where="pre", color=BLUE, label="certified: proved"
    )
    axis.axvline(shown["eps_certified"], color=GREY, linewidth=0.8)
    axis.set(
        xlabel="ε, largest change of a pixel", ylabel=f"of {n} test digits (%)", ylim=(0, 102), title="The network"
    )
    axis.legend(loc="lower left")
