"""How the cost of every relaxation grows with members, images, depth and width, as a table in Markdown.

    python benchmarks/scaling.py --out benchmarks/results/MACHINE-scaling.md

One thread; every number is the best of some rounds, in milliseconds per member and image. Rows of one table are timed
in turns.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import networks
import torch

from gls_es.benchmark.measure import interleaved, machine
from gls_es.benchmark.subject import Subject
from gls_es.bounds import METHODS, box_margins, entry_box
from gls_es.bounds.box import Box
from gls_es.losses import robust_cross_entropy
from gls_es.memory import keep_freed_memory

BASE = {"members": 8, "batch": 8, "depth": 3, "width": 8}
VALUES = {
    "members": (1, 4, 16, 64),
    "batch": (1, 4, 16, 64),
    "depth": (2, 3, 4, 6),
    "width": (4, 8, 16, 32),
}
NAMES = {
    "members": "members P",
    "batch": "images B",
    "depth": "convolutions",
    "width": "channels",
}


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the Markdown goes.")
@click.option("--method", "methods", multiple=True, help="Relaxation, repeatable; by default all.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--tiny", is_flag=True, help="Two values of each factor, small: does it run at all?")
def main(out: Path | None, methods: tuple[str, ...], repeats: int, device: str, tiny: bool) -> None:
    """Time one factor after the other around a base case."""
    torch.set_num_threads(1)
    keep_freed_memory()
    names = methods or tuple(dict.fromkeys(method.name for method in METHODS.values()))
    base = BASE | ({"members": 2, "batch": 2} if tiny else {})
    parts = [_head(torch.device(device), base)]
    for factor, values in VALUES.items():
        click.echo(factor, err=True)
        parts.append(table(factor, values[:2] if tiny else values, names, base=base, repeats=repeats, device=device))
    text = "\n\n".join(parts)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)


def table(
    factor: str, values: tuple[int, ...], methods: tuple[str, ...], *, base: dict[str, int], repeats: int, device: str
) -> str:
    """The Markdown table of one factor; the last row says how the whole cost grows with it."""
    subjects = {value: _subject(base | {factor: value}, device) for value in values}
    lines = [f"| {NAMES[factor]} | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    columns = [_column(method, subjects, repeats=repeats, device=device) for method in methods]
    for value, subject in subjects.items():
        cells = [f"{1e3 * column[value] / subject.size:.3g}" for column in columns]
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    growth = [math.log(c[values[-1]] / c[values[-2]]) / math.log(values[-1] / values[-2]) for c in columns]
    lines.append("| growth | " + " | ".join(f"^{g:.1f}" for g in growth) + " |")
    return "\n".join(lines)


def _column(method: str, subjects: dict[int, Subject], *, repeats: int, device: str) -> dict[int, float]:
    """Seconds of a whole evaluation by the factor's value."""
    works: dict[str, Any] = {str(value): _evaluation(subject, method) for value, subject in subjects.items()}
    timings = interleaved(works, repeats, device=torch.device(device))
    return {value: min(timings[str(value)].wall) for value in subjects}


def _evaluation(subject: Subject, method: str) -> Any:
    box = entry_box(subject.net, Box.between(subject.lower, subject.upper))

    def work() -> object:
        with torch.no_grad():
            margins = box_margins(subject.net, box, subject.labels, subject.params, method=method)
            return robust_cross_entropy(margins).mean(1)

    return work


def _subject(sizes: dict[str, int], device: str) -> Subject:
    net = networks.ladder(sizes["depth"], sizes["width"])
    return networks.random_subject(net, sizes["members"], sizes["batch"]).to(device)


def _head(device: torch.device, base: dict[str, int]) -> str:
    about = machine(device)
    where = about.get("gpu", about["cpu"])
    sizes = ", ".join(f"{NAMES[key]} = {value}" for key, value in base.items())
    return (
        f"Milliseconds per member and image; {where}, one thread, torch {about['torch']}. 3x3 convolutions on 1x16x16 "
        f"images, the first with stride 2, and a linear layer. Where a table does not say otherwise: {sizes}. "
        "Growth: exponent of the whole evaluation's time between the last two rows."
    )


if __name__ == "__main__":
    main()
