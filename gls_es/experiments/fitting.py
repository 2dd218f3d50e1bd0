"""What of a table fits into a given time: fewer seeds, then fewer cells, and fewer images."""

from __future__ import annotations

from dataclasses import dataclass

from gls_es.experiments.tables import Table

TRAINING_SHARE = 0.75
"""The part of a budget that training gets; certification takes the rest, or more: nothing cuts it short."""
SHORTEST = 20.0
"""Seconds of training below which a run is hardly worth it: seeds, then baselines, are left out instead."""
IMAGE_SECONDS = 0.05
"""About what certifying an image takes on a CPU, mean over robust and broken ones."""
BUSY = 1.2
"""Slowdown from which on it is mentioned."""
MOST_IMAGES = 1000
FEWEST_IMAGES = 100


@dataclass(frozen=True)
class Extent:
    """How much of a table is run.

    Attributes:
        cells: names, those that they start from included.
        seeds: runs of each cell.
        train_seconds: training of each run.
        limit: images that each run certifies.
    """

    cells: tuple[str, ...]
    seeds: int
    train_seconds: float
    limit: int

    @property
    def runs(self) -> int:
        """Runs in all."""
        return len(self.cells) * self.seeds

    @property
    def training(self) -> float:
        """Seconds of training of all runs."""
        return self.runs * self.train_seconds

    @property
    def certification(self) -> float:
        """About how many seconds certification takes at most."""
        return self.runs * self.limit * IMAGE_SECONDS

    def __str__(self) -> str:
        seeds = f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"
        each = f"{self.train_seconds:.3g} s of training and {self.limit} images each"
        return f"{self.runs} runs ({len(self.cells)} cells, {seeds}), {each}"

    def estimate(self, spent: float, share: float, slowdown: float) -> str:
        """What all of it will take on the clock, in words.

        Args:
            spent: seconds that measuring took.
            share: the part of the training's work that fits into its time.
            slowdown: seconds on the clock for a second of this process on its threads.
        """
        training, certification = share * slowdown * self.training, self.certification
        busy = f"; a second of work takes {slowdown:.2g} s here" if slowdown > BUSY else ""
        return (
            f"estimate: about {spent + training + certification:.3g} s, of which measuring took {spent:.3g} s, "
            f"training takes {training:.3g} s and certification at most about {certification:.3g} s{busy}"
        )


def fitted(
    table: Table, cells: tuple[str, ...], *, budget: float, seeds: int, fewer_seeds: bool, fewer_cells: bool
) -> Extent:
    """As many seeds and cells as a budget gives :data:`SHORTEST` seconds of training each; one seed at least.

    Args:
        table: what is compared.
        cells: names, at most.
        budget: seconds in all.
        seeds: runs per cell, at most.
        fewer_seeds: whether there may be fewer.
        fewer_cells: whether baselines may be left out.
    """
    training = TRAINING_SHARE * budget
    if fewer_seeds:
        seeds = max(1, min(seeds, int(training / SHORTEST / len(cells))))
    if fewer_cells and training / (len(cells) * seeds) < SHORTEST:
        cells = tuple(name for name in cells if table.cell(name).kind != "baseline") or cells
    runs = len(cells) * seeds
    images = int((budget - training) / runs / IMAGE_SECONDS)
    return Extent(cells, seeds, training / runs, min(MOST_IMAGES, max(FEWEST_IMAGES, images)))
