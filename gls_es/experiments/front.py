"""The front of a search: the trials that no other one beats in both accuracies, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gls_es.basics.plots import save_figure
from gls_es.experiments.trials import Trial


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The finished trials that none other has at least the accuracies of, and one of them higher.

    Returns:
        By falling certified accuracy; of equals in both the first one.
    """
    finished = [trial for trial in trials if trial.finished]
    ordered = sorted(finished, key=lambda trial: (-_pair(trial)[0], -_pair(trial)[1], trial.number))
    kept: list[Trial] = []
    for trial in ordered:
        if not kept or _pair(trial)[1] > _pair(kept[-1])[1]:
            kept.append(trial)
    return kept


def _pair(trial: Trial) -> tuple[float, float]:
    """Certified and natural accuracy of a finished trial."""
    assert trial.certified is not None
    assert trial.natural is not None
    return trial.certified, trial.natural


COLUMNS = ("trial", "certified", "natural", "unknown", "generations", "s", "hyper-parameters")


def cells_of_trial(trial: Trial) -> list[str]:
    """The texts of a trial, in the order of :data:`COLUMNS`, accuracies in percent."""
    certified, natural = _pair(trial)
    params = ", ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
    seconds = "-" if trial.seconds is None else f"{trial.seconds:.0f}"
    accuracies = [f"{100 * certified:.1f}", f"{100 * natural:.1f}"]
    return [str(trial.number), *accuracies, str(trial.unknown), str(trial.generations), seconds, params]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def save_picture(trials: Sequence[Trial], path: Path, *, title: str) -> None:
    """Draw certified against natural accuracy of every trial, with the front as a line, into an SVG file.

    Raises:
        DataError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # loads for half a second

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axis = figure.subplots()
    kept = front(trials)
    others = [trial for trial in trials if trial.finished and trial not in kept]
    for part, style, name in ((others, "o", "dominated"), (kept, "o-", "front")):
        points = [(100 * _pair(trial)[1], 100 * _pair(trial)[0]) for trial in part]
        if points:
            axis.plot(*zip(*points, strict=True), style, color="C0" if part is kept else "0.7", label=name)
    for trial in kept:
        axis.annotate(str(trial.number), (100 * _pair(trial)[1], 100 * _pair(trial)[0]), fontsize=8)
    axis.set_xlabel("natural accuracy (%)")
    axis.set_ylabel("certified accuracy (%)")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
    save_figure(figure, path)
