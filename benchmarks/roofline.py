"""How close ``crown`` by the compiled kernels comes to what the processor's multiplications allow.

    python benchmarks/roofline.py --out benchmarks/results/MACHINE-roofline.json

One thread, processor time, best of some rounds. The multiplications that a backward pass needs are counted from its
operations: a position's coefficients meet the taps of a kernel that lie on the map, and nothing else. A ReLU's lines
cost four a coefficient, the box one. Gradients compute the coefficients again and take two products for each one. The
speed that is compared with is that of a large matrix product or a large 3x3 convolution by PyTorch, whichever is
higher. What weights, bounds and lines need at the speed of memory is counted, too; it is small.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import networks
import torch
import torch.nn.functional as F
from scaling import evaluation
from torch import Tensor

from gls_es import kernels
from gls_es.basics.memory import keep_freed_memory
from gls_es.benchmark.measure import interleaved, machine
from gls_es.benchmark.subject import Subject
from gls_es.bounds import Plan, box_margins, entry_box
from gls_es.bounds.box import Box
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.kernels import Chain, Op

CASES = {
    "digits-cnn3": (networks.digits_cnn3, 64, 32, False),
    "cnn3-small": (networks.cnn3_small, 64, 64, False),
    "cnn3": (networks.cnn3, 4, 32, False),
    "cnn3, with gradients": (networks.cnn3, 4, 32, True),
    "cnn7, width 8": (lambda: networks.cnn7(8), 1, 16, False),
}
"""Network, members, images, with gradients."""

Span = tuple[int, int]
"""The first row (or column) of a rectangle, and the one after its last."""


class Work:
    """Adds up what the passes that are run need.

    Attributes:
        multiplications: each with an addition.
        bytes: of weights, lines, sizes and bounds, read or written once a pass.
    """

    def __init__(self) -> None:
        self.multiplications = 0
        self.bytes = 0

    def add(self, chain: Chain, members: int, images: int, *, gradients: bool = False) -> None:
        """Count a pass, or, with ``gradients``, what its gradients need."""
        products, elementwise = pass_work(chain)
        each = (3 if gradients else 1) * products + (2 if gradients else 1) * elementwise
        self.multiplications += members * images * each
        self.bytes += sum(t.nbytes for t in chain.tensors())


def pass_work(chain: Chain) -> tuple[int, int]:
    """Multiplications by weights, and in lines and sizes, for a member and image."""
    rows, columns = chain.positions or (1, 1)
    lanes = chain.units * (2 if chain.mirrored else 1)
    first = chain.ops[0] if chain.hoisted() else None  # unit vectors: its weights are read, and none multiplied
    spatial = chain.positions is not None
    products = elementwise = 0
    for row in range(rows):
        for column in range(columns):
            here = ((row, row + 1), (column, column + 1)) if spatial else ((0, chain.start[1]), (0, chain.start[2]))
            spans: dict[int, tuple[Span, Span]] = {0: here}
            for op in chain.ops:
                before, spans[op.target] = spans[op.source], _reached(op, spans)
                products += 0 if op is first else lanes * op_products(op, before)
                values = op.target_map[0] * _length(spans[op.target][0]) * _length(spans[op.target][1])
                elementwise += lanes * values * ((4 if op.lines or op.relu else 0) + (op.size is not None))
    return products, elementwise


def op_products(op: Op, before: tuple[Span, Span]) -> int:
    """Multiplications by a layer's weights for one function whose coefficients lie in a rectangle."""
    if op.kind == "linear":
        return math.prod(op.target_map) * math.prod(op.source_map)
    if op.kind != "conv":
        return 0
    assert op.window is not None
    kernel, stride, padding, dilation, groups = op.window
    taps = op.source_map[0] * op.target_map[0] // groups
    for axis in (0, 1):
        size = op.target_map[1 + axis]
        places = (
            i * stride[axis] - padding[axis] + k * dilation[axis]
            for i in range(*before[axis])
            for k in range(kernel[axis])
        )
        taps *= sum(0 <= place < size for place in places)
    return taps


def _reached(op: Op, spans: dict[int, tuple[Span, Span]]) -> tuple[Span, Span]:
    """The rectangle that an operation writes, joined with what others wrote."""
    sizes, found = op.target_map[1:], list(spans[op.source])
    if op.kind in ("linear", "fill"):
        found = [(0, size) for size in sizes]
    if op.window is not None:
        kernel, stride, padding, dilation, _ = op.window
        for axis in (0, 1):
            low = found[axis][0] * stride[axis] - padding[axis]
            high = (found[axis][1] - 1) * stride[axis] - padding[axis] + (kernel[axis] - 1) * dilation[axis] + 1
            found[axis] = (max(low, 0), min(high, sizes[axis]))
    if op.add:
        there = spans[op.target]
        found = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(found, there, strict=True)]
    return found[0], found[1]


def _length(span: Span) -> int:
    return max(0, span[1] - span[0])


@contextmanager
def counted() -> Iterator[Work]:
    """Count the passes that are run inside."""
    work, run, slopes = Work(), Chain.run, Chain.slopes

    def counting_run(self: Chain, members: int, images: int) -> Tensor:
        work.add(self, members, images)
        return run(self, members, images)

    def counting_slopes(self: Chain, gradient: Tensor, wanted: Any) -> list[Tensor | None]:
        work.add(self, gradient.shape[1], gradient.shape[2], gradients=True)
        return slopes(self, gradient, wanted)

    Chain.run, Chain.slopes = counting_run, counting_slopes  # type: ignore[method-assign]
    try:
        yield work
    finally:
        Chain.run, Chain.slopes = run, slopes  # type: ignore[method-assign]


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes.")
@click.option("--case", "names", type=click.Choice(list(CASES)), multiple=True, help="Only this one; by default all.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--tiny", is_flag=True, help="One member, one image, small products: does it run at all?")
def main(out: Path | None, names: tuple[str, ...], repeats: int, tiny: bool) -> None:
    """Measure the cases and write one JSON object."""
    if not kernels.available():
        raise click.ClickException("the compiled kernels are not built here, or turned off; see gls-es doctor.")
    torch.set_num_threads(1)
    keep_freed_memory()
    found: dict[str, Any] = {"machine": machine(torch.device("cpu")), "method": "crown", "repeats": repeats}
    found["cases"] = {name: case(name, repeats=repeats, tiny=tiny) for name in names or CASES}
    text = json.dumps(found, indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)


def case(name: str, *, repeats: int, tiny: bool) -> dict[str, float]:
    """One network; the speeds of products and of memory are measured in turns with it."""
    net, members, batch, gradients = CASES[name]
    subject = networks.random_subject(net(), *((1, 1) if tiny else (members, batch)))
    work = with_gradients(subject) if gradients else evaluation(subject, "crown")
    n = 64 if tiny else 1024
    a, b = torch.rand(n, n), torch.rand(n, n)
    x, y, z = (torch.rand(Plan.default("cpu").bytes // 4) for _ in range(3))
    images, kernel = torch.rand(8, n // 8, 16, 16), torch.rand(n // 8, n // 8, 3, 3)
    works = {
        "work": work,
        "product": lambda: torch.mm(a, b),
        "convolution": lambda: F.conv2d(images, kernel, padding=1),
        "pass": lambda: torch.mul(x, y, out=z),
    }
    timings = interleaved(works, repeats, device=torch.device("cpu"))
    seconds = {key: min(timing.cpu) for key, timing in timings.items()}
    product = n**3 / seconds["product"]
    convolution = images.numel() * kernel[0].numel() / seconds["convolution"]
    bandwidth = 3 * x.nbytes / seconds["pass"]
    with counted() as needed:
        work()
    least = max(needed.multiplications / max(product, convolution), needed.bytes / bandwidth)
    return {
        "members": len(subject.params),
        "batch": len(subject.labels),
        "seconds": seconds["work"],
        "product_gflops": 2 * product / 1e9,
        "convolution_gflops": 2 * convolution / 1e9,
        "bandwidth_gb": bandwidth / 1e9,
        "gflop": 2 * needed.multiplications / 1e9,
        "gigabytes": needed.bytes / 1e9,
        "least_seconds": least,
        "least_fraction": least / seconds["work"],
    }


def with_gradients(subject: Subject) -> Callable[[], object]:
    """The population's losses and their gradients."""
    box = entry_box(subject.net, Box.between(subject.lower, subject.upper))

    def work() -> object:
        params = subject.params.clone().requires_grad_()
        margins = box_margins(subject.net, box, subject.labels, params, method="crown")
        robust_cross_entropy(margins).mean().backward()  # type: ignore[no-untyped-call]
        return params.grad

    return work


if __name__ == "__main__":
    main()
