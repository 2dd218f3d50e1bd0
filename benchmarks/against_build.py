"""Time this checkout against another one, each in a process of its own, in turns, by processor time.

    python benchmarks/against_build.py /path/to/other/checkout --out table.json

Every case runs in four processes: both trees, as a library call and with freed memory kept as the command line does.
Results are compared, and medians of processor time and their ratios are written.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CONV3S = ((1, 8, 5, 2, 2), (8, 8, 4, 2, 1))
CONV3 = ((1, 16, 4, 2, 0), (16, 32, 4, 2, 0))


def cnn(convs: tuple[tuple[int, ...], ...], features: tuple[int, ...]) -> nn.Sequential:
    """Convolutions, then linear layers, with ReLUs between them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for conv in convs:
        layers += [nn.Conv2d(*conv), nn.ReLU()]
    layers.append(nn.Flatten())
    for size, following in pairwise(features):
        layers += [nn.Linear(size, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn7(width: int) -> nn.Sequential:
    """The deep network of the paper at a small width."""
    w = width
    sizes = ((3, w, 1), (w, w, 1), (w, 2 * w, 2), (2 * w, 2 * w, 1), (2 * w, 2 * w, 1))
    return cnn(tuple((c, o, 3, s, 1) for c, o, s in sizes), (2 * w * 256, 512, 10))


CASES: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...], float, int, int, tuple[str, ...]]] = {
    "cnn3-small": (lambda: cnn(CONV3S, (392, 10)), (1, 28, 28), 0.1, 64, 64, ("ibp", "crown-ibp", "crown")),
    "cnn3": (lambda: cnn(CONV3, (800, 100, 10)), (1, 28, 28), 0.1, 4, 32, ("crown-ibp", "crown", "crown backward")),
    "cnn7-8": (lambda: cnn7(8), (3, 32, 32), 2 / 255, 1, 16, ("crown-ibp", "crown")),
}


def work(name: str, method: str) -> Callable[[], Tensor]:
    """What is timed: margins of a population, or losses with gradients."""
    from gls_es import Network, bounds

    make, shape, eps, members, images, _ = CASES[name]
    net = Network(make(), shape)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(members, net.num_parameters, generator=generator)
    params = net.parameter_vector() + 0.01 * noise
    x = torch.rand(images, *shape, generator=generator)
    labels = torch.randint(0, 10, (images,), generator=generator)
    box = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)

    def forward() -> Tensor:
        with torch.no_grad():
            return bounds.margins(net, *box, labels, method=method, params=params)

    def backward() -> Tensor:
        theta = params.clone().requires_grad_()
        margins = bounds.margins(net, *box, labels, method=method.split()[0], params=theta)
        torch.logsumexp(-margins, 2).mean().backward()
        assert theta.grad is not None
        return theta.grad

    return backward if method.endswith("backward") else forward


def serve(keep: bool) -> None:
    """Answer requests on standard input: one line with case and method gives one line of JSON."""
    torch.set_num_threads(1)
    if keep:
        try:
            from gls_es.basics.memory import keep_freed_memory
        except ImportError:
            from gls_es.memory import keep_freed_memory
        keep_freed_memory()
    ready: dict[str, Callable[[], Tensor]] = {}
    for line in sys.stdin:
        name, method, where = json.loads(line)
        call = ready.setdefault(f"{name} {method}", work(name, method))
        start = time.process_time()
        found = call()
        seconds = time.process_time() - start
        torch.save(found.clone(), where)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.stdout.write(json.dumps([seconds, peak]) + "\n")
        sys.stdout.flush()


class Worker:
    """A process with one tree on its path."""

    def __init__(self, tree: Path, keep: bool) -> None:
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", "keep" if keep else "library"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, cwd=tree, text=True)

    def ask(self, name: str, method: str, where: Path) -> tuple[float, int]:
        """Processor seconds of one evaluation and the peak of memory in KiB; the result goes to a file."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, method, str(where)]) + "\n")
        self.process.stdin.flush()
        seconds, peak = json.loads(self.process.stdout.readline())
        return seconds, peak

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(other: Path, name: str, method: str, repeats: int, folder: Path) -> dict[str, Any]:
    """Both trees and both kinds of call, in turns, after a round that is not counted."""
    here = Path(__file__).resolve().parents[1]
    trees = {"this": here, "other": other}
    workers = {f"{tree} {kind}": Worker(path, kind == "keep") for tree, path in trees.items() for kind in KINDS}
    seconds: dict[str, list[float]] = {key: [] for key in workers}
    peaks: dict[str, int] = {}
    for turn in range(repeats + 1):
        for key, worker in workers.items():
            found, peaks[key] = worker.ask(name, method, folder / f"{key.replace(' ', '-')}.pt")
            if turn:
                seconds[key].append(found)
    for worker in workers.values():
        worker.stop()
    one, two = (torch.load(folder / f"{tree}-library.pt").double() for tree in trees)
    medians = {key: statistics.median(each) for key, each in seconds.items()}
    members, images = CASES[name][3:5]
    return {
        "case": name,
        "method": method,
        "us_per_member_image": {key: 1e6 * value / members / images for key, value in medians.items()},
        "ratio": {kind: medians[f"other {kind}"] / medians[f"this {kind}"] for kind in KINDS},
        "peak_mib": {key: value / 1024 for key, value in peaks.items()},
        "largest_difference": float((one - two).abs().max()) / max(float(two.abs().max()), 1e-30),
    }


KINDS = ("library", "keep")


def main() -> None:
    """Read the command line, time, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--method", action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve == "keep")
        return
    import tempfile

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.case or CASES:
            for method in options.method or CASES[name][5]:
                row = compare(options.other.resolve(), name, method, options.repeats, Path(folder))
                rows.append(row)
                sys.stdout.write(json.dumps(row) + "\n")
                sys.stdout.flush()
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
