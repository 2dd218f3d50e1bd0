"""Networks drawn at random: layers, windows, strides, groups, norms, pools and residual sums in any order.

The zoo holds the arrangements that people thought of; these are the others.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from tests.oracles.dag import Dag
from tests.oracles.nets import Case, randomise


class RandomNet(nn.Module):
    """A list of operations on the latest value; "keep" remembers it, "add" sums the two."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        channels, height, width = draw.randint(1, 3), draw.randint(4, 11), draw.randint(4, 11)
        self.input_shape = (channels, height, width)
        self.layers = nn.ModuleList()
        self.ops: list[str] = []
        kept: tuple[int, ...] | None = None
        shape = self.input_shape
        for _ in range(draw.randint(3, 8)):
            op = draw.choice(["conv", "conv", "conv", "relu", "relu", "relu", "norm", "pool", "keep", "add"])
            if op == "conv" and shape[1] * shape[2] > 1:
                self._push(op, _conv(draw, shape))
            elif op == "pool" and min(shape[1:]) > 2:
                self._push(op, _pool(draw))
            elif op == "norm":
                self._push(op, nn.BatchNorm2d(shape[0]))
            elif op == "relu":
                self._push(op, nn.ReLU())
            elif op == "keep":
                self._push(op, nn.Identity())
                kept = shape
            elif op == "add" and kept is not None:
                match = nn.Identity() if kept == shape else _matching(kept, shape)
                if match is not None:
                    self._push(op, match)
            shape = self._shape_after(shape)
        self.flatten = nn.Flatten()
        size = shape[0] * shape[1] * shape[2]
        self.head = nn.Sequential(nn.Linear(size, 5), nn.ReLU(), nn.Linear(5, 3))

    def _push(self, op: str, layer: nn.Module) -> None:
        self.ops.append(op)
        self.layers.append(layer)

    def _shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not self.ops or self.ops[-1] not in ("conv", "pool") or getattr(self, "_seen", 0) == len(self.ops):
            return shape
        self._seen = len(self.ops)
        with torch.no_grad():
            return tuple(self.layers[-1](torch.zeros(1, *shape)).shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        kept = x
        for op, layer in zip(self.ops, self.layers, strict=True):
            if op == "keep":
                kept = x
            elif op == "add":
                x = x + layer(kept)
            else:
                x = layer(x)
        return self.head(self.flatten(x))

    def dag(self, d: Dag) -> int:
        x = kept = 0
        for op, layer in zip(self.ops, self.layers, strict=True):
            if op == "keep":
                kept = x
            elif op == "add":
                x = d.add(x, kept if isinstance(layer, nn.Identity) else d.affine(layer, kept))
            else:
                x = d.relu(x) if op == "relu" else d.affine(layer, x)
        return d.chain(self.head, d.flatten(x))


def _conv(draw: random.Random, shape: tuple[int, ...]) -> nn.Conv2d:
    """A convolution that fits: any kernel, stride, padding, dilation, with groups where the channels allow it."""
    channels, *size = shape
    kernel = [draw.randint(1, min(4, n)) for n in size]
    padding = [draw.randint(0, 2) for _ in size]
    dilation = [
        draw.randint(1, 2) if (k - 1) * 2 < n + 2 * p else 1 for k, n, p in zip(kernel, size, padding, strict=True)
    ]
    groups = draw.choice([1, 1, channels])
    return nn.Conv2d(
        channels, groups * draw.randint(1, 2), tuple(kernel), stride=(draw.randint(1, 3), draw.randint(1, 3)),
        padding=tuple(padding), dilation=tuple(dilation), groups=groups, bias=draw.random() < 0.7,
    )  # fmt: skip


def _pool(draw: random.Random) -> nn.AvgPool2d:
    kernel = draw.randint(2, 3)
    return nn.AvgPool2d(kernel, stride=draw.randint(1, 3), padding=draw.randint(0, kernel // 2))


def _matching(kept: tuple[int, ...], shape: tuple[int, ...]) -> nn.Conv2d | None:
    """A strided convolution from one shape to the other, where some stride and padding give one."""
    for stride in (1, 2, 3, 4):
        for kernel in (1, 2, 3):
            for padding in (0, 1, 2):
                out = [(n + 2 * padding - kernel) // stride + 1 for n in kept[1:]]
                if out == list(shape[1:]):
                    return nn.Conv2d(kept[0], shape[0], kernel, stride=stride, padding=padding)
    return None


def random_case(seed: int) -> Case:
    """A case with weights in place."""

    def make() -> nn.Module:
        module = RandomNet(seed)
        randomise(module, torch.Generator().manual_seed(seed))
        return module

    return Case(
        f"random_{seed}", make, RandomNet(seed).input_shape, random.Random(seed).choice([0.02, 0.05, 0.1]), trained=True
    )
