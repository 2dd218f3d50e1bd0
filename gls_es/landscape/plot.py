"""The landscape as a picture: a row per relaxation, a column per direction, the loss itself and its smoothings."""

from __future__ import annotations

from pathlib import Path

from gls_es.errors import ConfigError, DataError
from gls_es.landscape.survey import Curve, Landscape

FORMATS = (".png", ".svg", ".pdf")


def save_plot(landscape: Landscape, path: Path) -> None:
    """Draw the landscape into ``path``, whose ending is one of :data:`FORMATS`.

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
            axis.set_title(f"{method}, {direction} direction", fontsize=10)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel("robust loss (nats)")
            if row == len(methods) - 1:
                axis.set_xlabel("t (1 = the norm of the weights)")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f"mean over {landscape.images} images, eps = {landscape.eps:.4g}", fontsize=11)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise DataError(f"{path}: the plot cannot be written ({error.strerror or error}).") from error


def check_format(path: Path) -> None:
    """Refuse a path whose ending is not among :data:`FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: a plot's name ends in {', '.join(FORMATS)}.")


def _draw(axis: object, landscape: Landscape, curve: Curve) -> None:
    raw = curve.sigma == 0
    axis.plot(  # type: ignore[attr-defined]
        landscape.steps.numpy(),
        curve.losses.numpy(),
        label="the loss" if raw else f"smoothed, σ = {curve.sigma:g}",
        linewidth=1.0 if raw else 1.8,
        color="black" if raw else None,
    )
