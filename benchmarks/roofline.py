"""How close bounds come to what products and memory allow: ``crown`` on CNN3-small and on the 89,606-parameter network.

    python benchmarks/roofline.py --out benchmarks/results/MACHINE-roofline.json

One thread, processor time, best of some rounds. Every operation that PyTorch runs is given the time that its
floating-point operations take at the speed of a large matrix product (or of a large 3x3 convolution, if it is one), or
the time that its inputs and outputs take to pass at the speed of an elementwise product of three tensors of one chunk's
size, whichever is longer. The sum of these is what this sequence of operations could take at best; views are free.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import networks
import torch
import torch.nn.functional as F
from scaling import evaluation
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from gls_es.basics.memory import keep_freed_memory
from gls_es.benchmark.measure import interleaved, machine
from gls_es.bounds import Plan

CASES = {"cnn3-small": (networks.cnn3_small, 8, 16), "cnn3": (networks.cnn3, 1, 16)}
"""Network, members, images."""


class Work(TorchDispatchMode):
    """Adds up operations and bytes.

    Args:
        product: operations per second of matrix products.
        convolution: the same of convolutions.
        bandwidth: bytes per second.

    Attributes:
        flops: of products and convolutions.
        bytes: of the inputs and outputs of everything.
        seconds: the least time for both, operation by operation.
    """

    def __init__(self, product: float, convolution: float, bandwidth: float) -> None:
        super().__init__()
        self.product, self.convolution, self.bandwidth = product, convolution, bandwidth
        self.flops = self.bytes = 0
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        flops = 0 if count is None else count(*args, **kwargs, out_val=result)
        size = 0 if _is_view(func) else _bytes(args) + _bytes(result)
        self.flops += flops
        self.bytes += size
        peak = self.convolution if func.overloadpacket is torch.ops.aten.convolution else self.product
        self.seconds += max(flops / peak, size / self.bandwidth)
        return result


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes.")
@click.option("--method", default="crown", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--tiny", is_flag=True, help="One member, one image, small products: does it run at all?")
def main(out: Path | None, method: str, repeats: int, tiny: bool) -> None:
    """Measure the cases and write one JSON object."""
    torch.set_num_threads(1)
    keep_freed_memory()
    found = {"machine": machine(torch.device("cpu")), "method": method, "repeats": repeats}
    found["cases"] = {name: case(name, method, repeats=repeats, tiny=tiny) for name in CASES}
    text = json.dumps(found, indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)


@torch.no_grad()
def case(name: str, method: str, *, repeats: int, tiny: bool) -> dict[str, float]:
    """One network; the peak and the bandwidth are measured in turns with it."""
    net, members, batch = CASES[name]
    subject = networks.random_subject(net(), *((1, 1) if tiny else (members, batch)))
    work = evaluation(subject, method)
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
    product = 2 * n**3 / seconds["product"]
    convolution = 2 * images.numel() * kernel[0].numel() / seconds["convolution"]
    bandwidth = 3 * x.nbytes / seconds["pass"]
    with Work(product, convolution, bandwidth) as counted:
        work()
    return {
        "members": len(subject.params),
        "batch": len(subject.labels),
        "seconds": seconds["work"],
        "product_gflops": product / 1e9,
        "convolution_gflops": convolution / 1e9,
        "bandwidth_gb": bandwidth / 1e9,
        "gflop": counted.flops / 1e9,
        "gigabytes": counted.bytes / 1e9,
        "peak_fraction": counted.flops / seconds["work"] / product,
        "least_seconds": counted.seconds,
        "least_fraction": counted.seconds / seconds["work"],
    }


def _is_view(func: Any) -> bool:
    """Whether the result is an input under another shape."""
    aliases = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _bytes(values: Any) -> int:
    """What the tensors hold; what is expanded is read once."""
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
    return sum(min(t.numel() * t.itemsize, t.untyped_storage().nbytes()) for t in tensors)


if __name__ == "__main__":
    main()
