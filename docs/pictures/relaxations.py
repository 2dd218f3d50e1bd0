"""The relaxations of one neuron: two lines that enclose a ReLU, by method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from gls_es.bounds.relaxation import LowerSlope, adaptive, enclose, same
from pictures.look import BLACK, BLUE, GREY, RED, SKY, figure_of


@dataclass(frozen=True)
class Enclosure:
    """What a relaxation makes of relu on [l, u]: two lines, each a slope and an offset.

    Attributes:
        name: whose it is.
        lower: l, the input's lower bound.
        upper: u, its upper bound.
        above: slope and offset of the line above.
        below: slope and offset of the line below.
    """

    name: str
    lower: float
    upper: float
    above: tuple[float, float]
    below: tuple[float, float]

    def gap(self, z: float) -> float:
        """The height between the lines at z."""
        return (self.above[0] - self.below[0]) * z + self.above[1] - self.below[1]

    @property
    def area(self) -> float:
        """The area between the lines; the gap is linear, so its mean is that of its ends."""
        return (self.upper - self.lower) * (self.gap(self.lower) + self.gap(self.upper)) / 2


def enclosures() -> list[Enclosure]:
    """The interval, CROWN's lines on both sides of its switch, and DeepZ's, in the order of the panels."""
    box = Enclosure("ibp: a box", -1.0, 1.5, (0.0, 1.5), (0.0, 0.0))  # relu of the interval's ends
    return [
        box,
        enclosure("crown, u > -l: λ = 1", -1.0, 1.5, adaptive),
        enclosure("crown, u < -l: λ = 0", -1.5, 1.0, adaptive),
        enclosure("deepz and crown-same: λ = s", -1.0, 1.5, same),
    ]


def enclosure(name: str, lower: float, upper: float, rule: LowerSlope) -> Enclosure:
    """What a rule for the lower slope makes of relu on [lower, upper]."""
    low, high = (torch.tensor([[end]], dtype=torch.float64) for end in (lower, upper))
    lines = enclose(low, high, None, rule)
    mean, half, mean_offset, half_offset = (
        float(v) for v in (lines.mean, lines.half, lines.mean_offset, lines.half_offset)
    )
    above, below = (mean + half, mean_offset + half_offset), (mean - half, mean_offset - half_offset)
    return Enclosure(name, lower, upper, above, below)


def draw() -> Figure:
    """Four panels: relu, the two lines, and what lies between them."""
    figure, axes = figure_of(2, 2, height=5.4, sharex=True, sharey=True)
    for axis, shown in zip(axes.flat, enclosures(), strict=True):
        ends = (shown.lower, shown.upper)
        above, below = ([slope * z + offset for z in ends] for slope, offset in (shown.above, shown.below))
        axis.fill_between(ends, below, above, color=SKY, alpha=0.3, linewidth=0)
        axis.plot([-1.8, 0, 1.8], [0, 0, 1.8], color=BLACK, linewidth=2.2, label="relu(z)")
        axis.plot(ends, above, color=RED, linestyle="--", linewidth=1.8, label="line above")
        axis.plot(ends, below, color=BLUE, linestyle="-.", linewidth=1.8, label="line below")
        for name, end in zip("lu", ends, strict=True):
            axis.axvline(end, color=GREY, linestyle=":", linewidth=1)
            axis.annotate(name, (end, -1.25), xytext=(4, 0), textcoords="offset points", color="#404040")
        axis.set_title(f"{shown.name} (area {shown.area:.2f})")
        axis.set_ylim(-1.4, 2.0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for axis in axes[1]:
        axis.set_xlabel("z, the ReLU's input (no unit)")
    for axis in axes[:, 0]:
        axis.set_ylabel("the ReLU's output (no unit)")
    return figure
