"""How the cost of every relaxation grows with members, images, depth and width, and what kind of work it is.

    python benchmarks/scaling.py --out benchmarks/results/MACHINE-scaling.json

One thread. A cost is the best of some rounds, in processor time, which other programs on the machine disturb less than
time by the clock; on a GPU it is time by the clock. The values of a factor are timed in turns. The JSON has seconds of
whole evaluations; the tables, in Markdown on standard output, have milliseconds per member and image.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import networks
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gls_es.basics.memory import keep_freed_memory
from gls_es.benchmark.measure import interleaved, machine
from gls_es.benchmark.subject import Subject
from gls_es.bounds import METHODS, box_margins, entry_box
from gls_es.bounds.box import Box
from gls_es.fitness.losses import robust_cross_entropy

BASE = {"members": 4, "batch": 8, "depth": 3, "width": 8}
VALUES = {
    "members": (1, 4, 16),
    "batch": (1, 4, 16),
    "depth": (2, 3, 4, 5),
    "width": (4, 8, 16),
}
NAMES = {
    "members": "members P",
    "batch": "images B",
    "depth": "convolutions",
    "width": "channels",
}
KINDS = {
    "products": ("bmm", "mm", "addmm", "baddbmm"),
    "convolutions": ("convolution",),
    "copies": (
        *(
            "clone",
            "copy_",
            "_to_copy",
            "cat",
            "stack",
            "constant_pad_nd",
            "pixel_shuffle",
            "pixel_unshuffle",
            "im2col",
        ),
        *("index", "index_select", "gather", "scatter", "flip"),
    ),
}
"""PyTorch's operators by kind of work; all others are passes over values, mostly elementwise."""
PASSES = "passes"


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes.")
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
    found: dict[str, Any] = {"machine": machine(torch.device(device)), "base": base, "repeats": repeats, "factors": {}}
    for factor, values in VALUES.items():
        click.echo(factor, err=True)
        few = values[:2] if tiny else values
        found["factors"][factor] = growth(factor, few, names, base=base, repeats=repeats, device=torch.device(device))
    if device == "cpu":
        click.echo("kinds of work", err=True)
        found["shares"] = {name: shares(_subject(base, device), name) for name in names}
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    click.echo(text(found))


def growth(
    factor: str,
    values: tuple[int, ...],
    methods: tuple[str, ...],
    *,
    base: dict[str, int],
    repeats: int,
    device: torch.device,
) -> dict[str, Any]:
    """Seconds of an evaluation for each value of a factor, and the slope of their logarithms, by relaxation."""
    subjects = {value: _subject(base | {factor: value}, device) for value in values}
    found: dict[str, Any] = {
        "values": values,
        "member_images": [subject.size for subject in subjects.values()],
        "methods": {},
    }
    for method in methods:
        works = {str(value): evaluation(subject, method) for value, subject in subjects.items()}
        timings = interleaved(works, repeats, device=device).values()
        seconds = [min(t.cpu if device.type == "cpu" else t.wall) for t in timings]
        found["methods"][method] = {"seconds": seconds, "slope": slope(values, seconds)}
    return found


def slope(values: tuple[int, ...], seconds: list[float]) -> float:
    """The exponent g of seconds ~ value^g: least squares of the logarithms."""
    x, y = ([math.log(v) for v in each] for each in (values, seconds))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread


class Operators(TorchDispatchMode):
    """Adds up the processor time inside operations by kind.

    Attributes:
        seconds: by kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = dict.fromkeys([*KINDS, PASSES], 0.0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at the clock."""
        start = time.thread_time()
        result = func(*args, **(kwargs or {}))
        spent = time.thread_time() - start
        name = func.overloadpacket.__name__
        self.seconds[next((kind for kind, names in KINDS.items() if name in names), PASSES)] += spent
        return result


def shares(subject: Subject, method: str) -> dict[str, float]:
    """Fractions by kind of work of the processor time inside operations."""
    work = evaluation(subject, method)
    work()
    with Operators() as operators:
        work()
    total = sum(operators.seconds.values())
    return {kind: spent / total for kind, spent in operators.seconds.items()}


def evaluation(subject: Subject, method: str) -> Callable[[], object]:
    """The population's losses, as a generation computes them."""
    box = entry_box(subject.net, Box.between(subject.lower, subject.upper))

    @torch.no_grad()
    def work() -> object:
        margins = box_margins(subject.net, box, subject.labels, subject.params, method=method)
        return robust_cross_entropy(margins).mean(1)

    return work


def text(found: dict[str, Any]) -> str:
    """The tables in Markdown."""
    about = found["machine"]
    sizes = ", ".join(f"{NAMES[key]} = {value}" for key, value in found["base"].items())
    head = (
        f"Milliseconds per member and image; {about.get('gpu', about['cpu'])}, one thread, torch {about['torch']}. "
        "3x3 convolutions on 1x16x16 images, the first with stride 2, and a linear layer. Where a table does not say "
        f"otherwise: {sizes}. Slope: exponent of the whole evaluation's time over all rows."
    )
    parts = [head, *(_growth_text(factor, table) for factor, table in found["factors"].items())]
    if "shares" in found:
        parts.append(_shares_text(found["shares"]))
    return "\n\n".join(parts)


def _growth_text(factor: str, table: dict[str, Any]) -> str:
    columns = table["methods"].values()
    rows = [[NAMES[factor], *table["methods"]], ["---"] * (1 + len(columns))]
    for index, (value, size) in enumerate(zip(table["values"], table["member_images"], strict=True)):
        rows.append([str(value), *(f"{1e3 * column['seconds'][index] / size:.3g}" for column in columns)])
    rows.append(["slope", *(f"{column['slope']:.2f}" for column in columns)])
    return _markdown(rows)


def _shares_text(found: dict[str, dict[str, float]]) -> str:
    rows = [["share of the time", *found], ["---"] * (1 + len(found))]
    rows += [[kind, *(f"{100 * part[kind]:.0f} %" for part in found.values())] for kind in (*KINDS, PASSES)]
    return _markdown(rows)


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _subject(sizes: dict[str, int], device: torch.device | str) -> Subject:
    net = networks.ladder(sizes["depth"], sizes["width"])
    return networks.random_subject(net, sizes["members"], sizes["batch"]).to(device)


if __name__ == "__main__":
    main()
