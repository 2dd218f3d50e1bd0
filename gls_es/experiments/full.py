"""The tables at full length (``gls-es reproduce TABLE --full``): every cell draws the same number of images.

Where time is equal, a relaxation that costs five times as much sees a fifth of the images, and the comparison is one of
speed. Here every cell trains until its schedule's end on the same minibatches, generation for generation, so that what
differs is the loss and the noise alone. A cell that starts from another one's result draws more, which its row says;
the cell ``after-ibp`` takes the same way within one run and draws no more than the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gls_es.experiments.tables import TABLES, Cell, Table

SIGMAS = ("0.01", "0.03", "0.06", "0.1")
"""Standard deviations of the weight noise, as they stand in the names of cells; the usual one comes from the length."""
RELATIVE = ("0.03", "0.1", "0.2")
"""The same relative to the layer's weights."""
METHODS = ("ibp", "crown-ibp", "crown")
LOSSES = ("adversarial", "sabr", "mtl-ibp", "cc-ibp", "exp-ibp", "taps", "staps")
"""Losses of other trainings, followed by gradients; bounds are intervals where they have any."""


@dataclass(frozen=True)
class Length:
    """How long every cell of a table trains, and with what steps.

    Attributes:
        generations: minibatches.
        batch_size: images in each.
        natural_until: where natural training ends.
        ramp_until: where the radius is full.
        learning_rate: of Adam at the start; it goes down a cosine to a hundredth.
        stdev: σ of the cells that name none.
        eps_factor: training radius relative to that of certification.
    """

    generations: int
    batch_size: int
    natural_until: int
    ramp_until: int
    learning_rate: float
    stdev: float = 0.03
    eps_factor: float = 1.0

    @classmethod
    def of_epochs(cls, epochs: int, images: int, *, batch_size: int = 128, learning_rate: float = 0.005) -> Length:
        """The length of so many walks through so many images: a twentieth natural, and a ramp until the middle."""
        generations = round(epochs * images / batch_size)
        return cls(generations, batch_size, generations // 20, generations // 2, learning_rate)

    @property
    def settings(self) -> dict[str, Any]:
        """Recipe fields that all cells share, so that nothing else of a problem's recipes differs between searchers."""
        return {
            "generations": self.generations,
            "batch_size": self.batch_size,
            "natural_until": self.natural_until,
            "ramp_until": self.ramp_until,
            "center_learning_rate": self.learning_rate,
            "learning_rate_end": 0.01,
            "eps_factor": self.eps_factor,
        }


def _cells(length: Length) -> tuple[Cell, ...]:
    same = length.settings
    rgs: dict[str, Any] = same | {"popsize": 1, "stdev_init": length.stdev, "warmup_method": "", "main_method": ""}
    cells = [Cell(f"grad-{method}", "grad", method, same) for method in METHODS]
    cells += [Cell(f"rgs-{method}", "rgs", method, rgs) for method in METHODS]
    for method in ("crown", "ibp"):
        kind = "comparison" if method == "crown" else "further"
        cells += [
            Cell(f"rgs-{method}-{label}", "rgs", method, rgs | noise, kind=kind)
            for label, noise in _noises(length.stdev).items()
        ]
    cells += [
        Cell(f"rgs-crown-{label}", "rgs", "crown", {**rgs, **changes}, kind="further")
        for label, changes in _variants(length).items()
    ]
    after: dict[str, Any] = {"warmup_method": "ibp", "warmup_until": length.ramp_until}
    cells += [
        Cell("rgs-crown-after-ibp", "rgs", "crown", rgs | after, kind="further"),
        Cell("rgs-crown-r0.1-after-ibp", "rgs", "crown", rgs | _noises(length.stdev)["r0.1"] | after, kind="further"),
        Cell("grad-crown-after-ibp", "grad", "crown", same | after, kind="further"),
    ]
    onwards: dict[str, Any] = {
        "generations": length.generations // 2,
        "natural_until": 0,
        "ramp_until": 0,
        "natural_weight_start": 0.0,
        "center_learning_rate": length.learning_rate / 5,
    }
    cells += [
        Cell(f"{searcher}-crown-from-ibp", searcher, "crown", of | onwards, start="grad-ibp", kind="further")
        for searcher, of in (("grad", same), ("rgs", rgs))
    ]
    cells += [Cell(f"grad-{loss}", "grad", "ibp", same | {"loss": loss}, kind="further") for loss in LOSSES]
    pgpe = same | {"popsize": 64, "stdev_init": length.stdev}
    cells += [Cell(f"pgpe-{method}", "pgpe", method, pgpe, kind="further") for method in METHODS]
    return tuple(cells)


def _noises(usual: float) -> dict[str, dict[str, Any]]:
    """Cells of σ: absolute, relative, and the largest one with a schedule."""
    absolute: dict[str, dict[str, Any]] = {
        f"s{sigma}": {"stdev_init": float(sigma)} for sigma in SIGMAS if float(sigma) != usual
    }
    relative: dict[str, dict[str, Any]] = {
        f"r{sigma}": {"stdev_init": float(sigma), "stdev_mode": "relative"} for sigma in RELATIVE
    }
    return absolute | relative


def _variants(length: Length) -> Mapping[str, Mapping[str, Any]]:
    """What else might help, each alone, and at σ = 0.06 what needs noise that one copy suffers from."""
    large: dict[str, Any] = {"stdev_init": 0.06}
    longer = length.ramp_until + (length.generations - length.ramp_until) // 2
    return {
        "x2": large | {"popsize": 2},
        "x2-antithetic": large | {"popsize": 2, "antithetic": True},
        "x4": large | {"popsize": 4},
        "x16": large | {"popsize": 16},
        "s0.1-falling": {"stdev_init": 0.1, "stdev_end": 0.1},
        "longer-ramp": {"ramp_until": longer},
        "l1": {"l1": 1e-5},
        "averaged": {"average_decay": 0.998},
    }


_LENGTHS: Mapping[str, Length] = {
    # 12,000 minibatches of the 1,437 training images, 534 epochs, as in the pilot that found σ to matter
    "digits-0.1": Length(12_000, 64, natural_until=800, ramp_until=6000, learning_rate=0.01, eps_factor=1.1),
    "mnist-0.1": Length.of_epochs(20, 60_000),
    "mnist-0.3": Length.of_epochs(20, 60_000),
    "cifar-2": Length.of_epochs(40, 50_000),
    "cifar-8": Length.of_epochs(40, 50_000),
}


def _full(table: Table, length: Length) -> Table:
    """The table's problem and published numbers, with the cells of full length."""
    published = {cell.name: cell.published for cell in table.cells}
    cells = tuple(
        Cell(c.name, c.searcher, c.method, c.settings, published.get(c.name, c.published), c.start, c.kind)
        for c in _cells(length)
    )
    title = f"{table.title}; full length, every cell on the same minibatches"
    return Table(f"{table.name}-full", title, table.problem, table.eps, cells)


FULL: dict[str, Table] = {name: _full(TABLES[name], length) for name, length in _LENGTHS.items()}
"""The tables of full length, by the names of those that they are beside."""
