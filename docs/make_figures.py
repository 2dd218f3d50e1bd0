"""Makes the pictures of the pages, in docs/figures/ or in a folder that is named, in about half a minute.

    python docs/make_figures.py [FOLDER]

Every picture has a module in docs/pictures/ with a function that computes what is shown, with the code of gls_es itself
wherever there is some, and one that draws it. What a page says of a picture is a statement about the computed numbers,
which a test checks. The same versions of everything make the same files, byte for byte: noise is seeded, and nothing is
dated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from pictures import estimators, landscape, main_job, relaxations, rooms, tightness
from pictures.look import LOOK, svg_of

FIGURES = Path(__file__).with_name("figures")

DRAWINGS: dict[str, Callable[[], Figure]] = {
    "relaxations.svg": relaxations.draw,
    "tightness.svg": tightness.draw,
    "landscape.svg": landscape.draw,
    "estimators.svg": estimators.draw,
    "rooms.svg": rooms.draw,
    "main_job.svg": main_job.draw,
}
"""Every file and what draws it."""


def main(folder: Path = FIGURES) -> list[Path]:
    """Draw every picture into a folder, which is made if need be; the paths."""
    torch.set_num_threads(1)  # sums in one order
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in DRAWINGS.items():
        with rc_context({**LOOK, "svg.hashsalt": name}):
            paths.append(folder / name)
            paths[-1].write_text(svg_of(draw()), encoding="utf-8")
    return paths


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
