"""Activations beyond ReLU: certificates of random small networks against grids, and digits-cnn3 trained with each.

    python benchmarks/activations.py grids --nets 300 --json      # certify, and look for another class in each ball
    python benchmarks/activations.py train --seconds 60 --json    # certified accuracy with each, on ibp and crown

A network of ``grids`` has two inputs, so that a fine grid sees all of a ball; its last bias makes the first image a
close call. A point of a certified ball with another class, by the executed module, is a contradiction.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import gls_es
from gls_es.data import load_digits
from gls_es.problems.digits import DigitsCNN3


class Abs(nn.Module):
    """|z|."""

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape is kept."""
        return x.abs()


class Largest(nn.Module):
    """max(z, 0.4 - z / 2) of two activations."""

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape is kept."""
        return torch.maximum(x, 0.4 - 0.5 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.1),
    "prelu": nn.PReLU,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "abs": Abs,
    "max-of-two": Largest,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu-tanh": lambda: nn.GELU("tanh"),
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
}
STAGES = (
    ("ibp", "crown-ibp", "crown", "best", "alpha", "bab"),
    ("crown", "attack"),
    ("alpha", "attack"),
    ("attack", "best", "bab"),
)
LINE = 201


class Mixed(nn.Module):
    """Two inputs, one to three layers of three to five activations, some with a skip; two or three classes."""

    def __init__(self, names: list[str], draw: random.Random) -> None:
        super().__init__()
        width = draw.randint(3, 5)
        sizes = [2, *[width] * len(names)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.activations = nn.ModuleList(ACTIVATIONS[name]() for name in names)
        self.skips = [False, *(draw.random() < 0.3 for _ in names[1:])]
        self.last = nn.Linear(width, draw.randint(2, 3))
        gain = draw.choice((1.0, 3.0, 6.0))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(gain if parameter.dim() > 1 else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B, K)."""
        for layer, activation, skip in zip(self.layers, self.activations, self.skips, strict=True):
            z = layer(x)
            x = activation(z + x if skip else z)
        logits: Tensor = self.last(x)
        return logits


def ball(image: Tensor, eps: float) -> Tensor:
    """Points of a ball in two dimensions, its corners among them, a little inside."""
    line = torch.linspace(-0.9999, 0.9999, LINE)
    return (image + eps * torch.cartesian_prod(line, line)).clamp(0, 1)


@torch.no_grad()
def close_call(module: Mixed, image: Tensor, eps: float, draw: random.Random) -> None:
    """Move the last bias so that the first two classes are nearly equal somewhere in the image's ball."""
    gap = module(ball(image, eps))
    gap = gap[:, 0] - gap[:, 1]
    module.last.bias[0] -= gap.min() - draw.uniform(-0.3, 1.0) * (gap.max() - gap.min())


def grids(count: int, seed: int) -> dict[str, Any]:
    """Verdicts on random networks, and how many of the certified balls hold another class."""
    draw = random.Random(seed)
    verdicts: Counter[str] = Counter()
    by_activation: dict[str, Counter[str]] = {name: Counter() for name in ACTIVATIONS}
    contradictions: list[str] = []
    begun = time.monotonic()
    for number in range(count):
        torch.manual_seed(seed * 100_003 + number)
        first = list(ACTIVATIONS)[number % len(ACTIVATIONS)]
        names = [first, *(draw.choice([first, *ACTIVATIONS]) for _ in range(draw.randint(0, 2)))]
        module, eps = Mixed(names, draw).eval(), draw.choice((0.01, 0.05, 0.1, 0.2))
        images = torch.rand(4, 2)
        close_call(module, images[0], eps, draw)
        with torch.no_grad():
            labels = module(images).argmax(1)
        report = gls_es.certify(module, images, labels, eps, stages=draw.choice(STAGES), timeout=1.0, seed=0)
        for verdict in report.verdicts:
            verdicts[verdict.verdict] += 1
            by_activation[first][verdict.verdict] += 1
            if verdict.verdict != "certified":
                continue
            with torch.no_grad():
                seen = module(ball(images[verdict.index], eps)).argmax(1)
            if bool((seen != verdict.label).any()):
                contradictions.append(f"net {number} of {names}, image {verdict.index}, eps {eps}")
    return {
        "nets": count,
        "seed": seed,
        **verdicts,
        "contradictions": contradictions,
        "by_activation": {name: dict(found) for name, found in by_activation.items()},
        "seconds": round(time.monotonic() - begun, 1),
    }


class Activated(DigitsCNN3):
    """digits-cnn3 with another activation."""

    activation: ClassVar[Callable[[], nn.Module]] = nn.ReLU

    def make_network(self) -> nn.Module:
        """Conv 3x3 /2 -> 8, conv 2x2 /2 -> 16, linear -> 10."""
        make = type(self).activation
        layers = nn.Conv2d(1, 8, 3, stride=2, padding=1), make(), nn.Conv2d(8, 16, 2, stride=2), make()
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))


def train(seconds: int, names: list[str], methods: list[str]) -> list[dict[str, Any]]:
    """Train with each activation by its own gradient of the relaxation, and certify the first 100 test images."""
    rows = []
    for name in names:
        for method in methods:
            problem = type("Activated", (Activated,), {"activation": staticmethod(ACTIVATIONS[name])})
            with tempfile.TemporaryDirectory() as folder:
                path = gls_es.train(
                    problem(seed=0, method=method), "grad", budget=float(seconds), out=Path(folder) / "run"
                )
                module = gls_es.training.load_trained(path, problem=problem(seed=0)).network.module()
            test = load_digits().test
            images, labels = test.images[:100].float() / test.scale, test.labels[:100]
            report = gls_es.certify(module, images, labels, Activated.eps, timeout=2.0)
            counts = Counter(verdict.verdict for verdict in report.verdicts)
            row = {"activation": name, "method": method, "seconds": seconds, **counts}
            row["natural"] = 100 - counts["misclassified"]
            rows.append(row)
            sys.stderr.write(f"{json.dumps(row)}\n")
    return rows


def main() -> int:
    """Run, print, and fail if a certificate did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("grids", "train"))
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--activations", nargs="*", default=list(ACTIVATIONS), choices=list(ACTIVATIONS))
    parser.add_argument("--methods", nargs="*", default=["ibp", "crown"])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    if options.what == "train":
        found: dict[str, Any] = {"trained": train(options.seconds, options.activations, options.methods)}
    else:
        found = grids(options.nets, options.seed)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.writelines(f"{name}: {value}\n" for name, value in found.items())
    return 1 if found.get("contradictions") else 0


if __name__ == "__main__":
    sys.exit(main())
