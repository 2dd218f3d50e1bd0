"""Who imports whom among the rooms of the code, read from the import statements themselves."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import grimp
from matplotlib.figure import Figure

from pictures.look import BLUE, GREY, SKY, figure_of

ROOT = Path(__file__).resolve().parents[2]

EVERYWHERE = frozenset({"basics", "errors"})
"""What every room may use; drawn without arrows."""

OUTER = frozenset({"cli", "problems"})
"""Rooms that lie beside gls_es/ in a checkout."""

PUBLIC = {"losses": "fitness"}
"""Modules under a public name of their own, and the room that they belong to."""


@cache
def imports() -> dict[str, frozenset[str]]:
    """Every room and the rooms that it imports, also inside functions and for type checkers; no circles."""
    sys.path.insert(0, str(ROOT))  # cli and problems are packages of their own in a checkout
    try:
        graph = grimp.build_graph("gls_es", "cli", "problems", cache_dir=None)
    finally:
        sys.path.remove(str(ROOT))
    found: dict[str, set[str]] = {}
    for module in sorted(graph.modules):
        home = _room(module)
        if home:
            targets = map(_room, graph.find_modules_directly_imported_by(module))
            found.setdefault(home, set()).update(t for t in targets if t not in ("", home))
    return {room: frozenset(targets) for room, targets in found.items()}


def _room(module: str) -> str:
    """``bounds`` for gls_es.bounds.crown, ``cli`` for cli.train; "" for gls_es itself."""
    package, _, rest = module.partition(".")
    if package in OUTER:
        return package
    first = rest.partition(".")[0]
    # an imported checkout also has the folders beside gls_es/ on its path, which grimp then gives strange names
    inner = package == "gls_es" and first != "__main__" and any((ROOT / "gls_es").glob(f"{first}*"))
    return PUBLIC.get(first, first) if first and inner else ""


def closure(arrows: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Every room and all that it reaches."""
    reached: dict[str, frozenset[str]] = {}

    def reach(room: str) -> frozenset[str]:
        if room not in reached:
            below = arrows.get(room, frozenset())
            reached[room] = below.union(*map(reach, below))
        return reached[room]

    for room in arrows:
        reach(room)
    return reached


def drawn() -> dict[str, frozenset[str]]:
    """The arrows of the picture: those that no chain of other arrows implies, without what is used everywhere."""
    arrows = {room: targets - EVERYWHERE for room, targets in imports().items() if room not in EVERYWHERE}
    reached = closure(arrows)
    return {
        room: frozenset(t for t in targets if not any(t in reached[other] for other in targets))
        for room, targets in arrows.items()
    }


def rows() -> list[list[str]]:
    """The rooms from the top row to the bottom one: each stands above everything it imports."""
    arrows = drawn()
    height: dict[str, int] = {}

    def rise(room: str) -> int:
        if room not in height:
            height[room] = 1 + max(map(rise, arrows[room]), default=-1)
        return height[room]

    for room in arrows:
        rise(room)
    return [sorted(r for r, h in height.items() if h == level) for level in range(max(height.values()), -1, -1)]


def draw() -> Figure:
    """Boxes in rows, and an arrow from each room down to those that it imports."""
    levels = rows()
    figure, axis = figure_of(1, 1, height=0.62 * len(levels) + 0.4)
    place = {}
    for down, level in enumerate(levels):
        for across, room in enumerate(level):
            place[room] = ((across + 1) / (len(level) + 1) + 0.03 * (-1) ** down, -float(down))
    for room, (x, y) in place.items():
        axis.text(x, y, room, ha="center", va="center", zorder=9, bbox={"boxstyle": "round", "fc": "white", "ec": BLUE})
    for room, targets in sorted(drawn().items()):
        for target in sorted(targets):
            arrow = axis.annotate(
                "",
                xy=(place[target][0], place[target][1] + 0.27),
                xytext=(place[room][0], place[room][1] - 0.27),
                arrowprops={"arrowstyle": "->", "color": GREY if target in ("data", "network") else SKY},
            )
            arrow.arrow_patch.set_gid(f"{room}--{target}")
    axis.set_xlim(0, 1)
    axis.set_ylim(0.5 - len(levels), 0.5)
    axis.set_axis_off()
    return figure
