"""The landscape as a picture: a row per relaxation, a column per direction, the loss itself and its smoothings.

Every jump that the table counts has a mark on the line; the largest of a panel is shown again in a window of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gls_es.basics.plots import check_format, save_figure
from gls_es.landscape.survey import Curve, Landscape, Zoom

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_plot(landscape: Landscape, path: Path) -> None:
    """Draw the landscape into ``path``, whose ending is one of :data:`gls_es.basics.plots.FORMATS`.

    Raises:
        ConfigError: another ending.
        DataError: the file cannot be written.
    """
    check_format(path)
    from matplotlib.figure import Figure  # loads for half a second

    methods = list(dict.fromkeys(curve.method for curve in landscape.curves))
    directions = list(landscape.statistics)
    figure = Figure(figsize=(5.2 * len(directions), 2.6 * len(methods) + 0.6), layout="constrained")
    axes = figure.subplots(len(methods), len(directions), squeeze=False, sharex=True)
    for row, method in enumerate(methods):
        for column, direction in enumerate(directions):
            axis = axes[row, column]
            for curve in landscape.curves:
                if (curve.method, curve.direction) == (method, direction):
                    _draw(axis, landscape, curve)
            for zoom in landscape.zooms:
                if (zoom.method, zoom.direction) == (method, direction):
                    _zoom(axis, zoom)
            axis.set_title(f"{method}, {direction} direction", fontsize=10)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel("robust loss (nats)")
            if row == len(methods) - 1:
                axis.set_xlabel("t (1 = the norm of the weights)")
    for axis in axes.flat:
        axis.legend(fontsize=7, loc="lower left")
    figure.suptitle(f"mean over {landscape.images} images, eps = {landscape.eps:.4g}", fontsize=11)
    save_figure(figure, path)


def _draw(axis: Axes, landscape: Landscape, curve: Curve) -> None:
    raw = curve.sigma == 0
    axis.plot(
        landscape.steps.numpy(),
        curve.losses.numpy(),
        label="the loss" if raw else f"smoothed, σ = {curve.sigma:g}",
        linewidth=1.0 if raw else 1.8,
        color="black" if raw else None,
    )
    if raw:
        _mark(axis, landscape, curve)


def _mark(axis: Axes, landscape: Landscape, curve: Curve) -> None:
    """A mark on the line for each jump that the table counts."""
    known = next(one for one in landscape.statistics[curve.direction] if one.method == curve.method)
    if known.places:
        places = torch.tensor(known.places, dtype=landscape.steps.dtype)
        nearest = (landscape.steps[:, None] - places).abs().argmin(0)
        axis.plot(
            places.numpy(), curve.losses[nearest].numpy(), linestyle="none", marker="|", markersize=14, color="C3",
            label=f"{known.jumps} of {known.examined} intervals jump",
        )  # fmt: skip


def _zoom(axis: Axes, zoom: Zoom) -> None:
    """The largest jump of a panel in a window of its own."""
    window = axis.inset_axes((0.36, 0.52, 0.3, 0.34))
    middle = len(zoom.steps) // 2
    for part in (slice(0, middle), slice(middle, None)):  # two lines: what is between them is the jump
        window.plot((zoom.steps[part] - zoom.place).numpy(), zoom.losses[part].numpy(), color="C3", linewidth=1.2)
    window.tick_params(labelsize=5)
    window.locator_params(nbins=4)
    for scale in (window.xaxis, window.yaxis):
        scale.get_offset_text().set_fontsize(5)
    window.set_title(f"the largest jump, at t = {zoom.place:.4g}", fontsize=6, pad=2)
