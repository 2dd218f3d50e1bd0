"""Accuracy against radius as a picture: certified below, adversarial above, the truth between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gls_es.basics.intervals import wilson_interval
from gls_es.basics.plots import check_format, save_figure
from gls_es.certification.radii import RadiusReport
from gls_es.certification.report import CertificationReport


@dataclass(frozen=True)
class Curve:
    """Counts at ascending radii.

    Attributes:
        eps: the radii, in pixel units.
        certified: images certified at each.
        standing: images without a known counterexample at each.
        n: images in all.
        steps: whether the counts are known between the radii, too, and change in steps.
    """

    eps: tuple[float, ...]
    certified: tuple[int, ...]
    standing: tuple[int, ...]
    n: int
    steps: bool

    @classmethod
    def of_reports(cls, reports: Sequence[CertificationReport]) -> Curve:
        """The curve through the reports of the same images at several radii."""
        ordered = sorted(reports, key=lambda report: report.eps)
        counts = [report.counts for report in ordered]
        return cls(
            eps=tuple(report.eps for report in ordered),
            certified=tuple(count["certified"] for count in counts),
            standing=tuple(count["certified"] + count["unknown"] for count in counts),
            n=ordered[0].n,
            steps=False,
        )

    @classmethod
    def of_radii(cls, report: RadiusReport) -> Curve:
        """The curve of certified radii: it changes where an image's radius or counterexample lies."""
        ends = {image.radius for image in report.images} | {image.falsified for image in report.images}
        eps = sorted({0.0, report.largest, *(end for end in ends if end is not None)})
        return cls(
            eps=tuple(eps),
            certified=tuple(map(report.certified_at, eps)),
            standing=tuple(map(report.standing_at, eps)),
            n=report.n,
            steps=True,
        )


def save_curve(curve: Curve, path: Path, *, title: str) -> None:
    """Draw a curve with Wilson 95 % intervals.

    Args:
        curve: the counts.
        path: the picture; its ending is one of :data:`gls_es.basics.plots.FORMATS`.
        title: above it; the number of images is added.

    Raises:
        ConfigError: another ending.
        DataError: the file cannot be written.
    """
    check_format(path)
    from matplotlib.figure import Figure  # loads for half a second

    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.subplots()
    _draw(axis, curve, curve.standing, "adversarial", "tab:orange", certified=False)
    _draw(axis, curve, curve.certified, "certified", "tab:blue", certified=True)
    axis.set_xlabel("ε (L∞, pixels in [0, 1])")
    axis.set_ylabel("images (%)")
    axis.set_ylim(-2, 102)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9, title="bands: Wilson 95 %", title_fontsize=8)
    axis.set_title(f"{title}, n = {curve.n:,}", fontsize=10)
    save_figure(figure, path)


def _draw(axis: Any, curve: Curve, counts: Sequence[int], name: str, colour: str, *, certified: bool) -> None:
    """A certified count holds up to its radius; one without counterexamples from its radius on."""
    where = ("pre" if certified else "post") if curve.steps else None
    values = [100 * count / curve.n for count in counts]
    bands = [[100 * end for end in wilson_interval(count, curve.n)] for count in counts]
    style: dict[str, Any] = {"drawstyle": f"steps-{where}"} if where else {"marker": "o", "markersize": 4}
    axis.plot(curve.eps, values, label=name, color=colour, **style)
    axis.fill_between(
        curve.eps,
        [low for low, _ in bands],
        [high for _, high in bands],
        step=where,
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
