"""Networks drawn at random whose values are moved, repeated, joined, summed and convolved back between the layers.

Each move is a function on a batch, which the oracles probe like any affine step; joining is a sum of padded parts.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.oracles.dag import Dag
from tests.oracles.nets import Case, randomise

Move = Callable[[Tensor], Tensor]

MOVES: dict[str, Move] = {
    "slice": lambda x: x[:, :2, 1:, ::2],
    "last": lambda x: x[..., -2:],
    "flip": lambda x: x.flip(2),
    "roll": lambda x: x.roll((1, 2), (1, 3)),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "transpose": lambda x: x.transpose(1, 2).contiguous(),
    "order": lambda x: x[:, :, [1, 0, 1]],
    "pad": lambda x: F.pad(x, (1, 0, -1, 2)),
    "pad with a number": lambda x: F.pad(x, (0, 1, 1, 0), value=0.3),
    "reflect": lambda x: F.pad(x, (1, 1, 0, 1), mode="reflect"),
    "replicate": lambda x: F.pad(x, (0, 2, 1, 0), mode="replicate"),
    "larger": lambda x: F.interpolate(x, scale_factor=(1, 2)),
    "expand": lambda x: x[:, :1].expand(-1, 9, -1, -1),  # more copies than are gathered one by one
    "channels": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "channels left out": lambda x: F.pad(x[:, -1:], (0, 0, 0, 0, 1, 1)),
    "columns": lambda x: x.unfold(3, 2, 1).flatten(3),
    "triangle": lambda x: x.tril(1),
    "hole": lambda x: x.masked_fill(torch.arange(x.shape[-1]) == 1, -0.2),
    "mean": lambda x: x.mean(1, keepdim=True),
    "sum": lambda x: x.sum((1, 3), keepdim=True) * 0.2,
    "rows": lambda x: x.mean((2, 3), keepdim=True).expand_as(x),
}


class RandomStructure(nn.Module):
    """Layers and moves on the latest value; "keep" remembers it, "cat" puts the two one behind the other."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.input_shape = (draw.randint(1, 2), draw.randint(3, 5), draw.randint(3, 5))
        self.layers = nn.ModuleList()
        self.ops: list[str] = []
        self.sizes: list[tuple[torch.Size, torch.Size]] = []  # of the value before each operation, and of the kept one
        x = kept = torch.zeros(1, *self.input_shape)
        for _ in range(draw.randint(4, 8)):
            op = draw.choice(["conv", "back", "dense", "relu", "relu", "relu", "keep", "cat", *["move"] * 5])
            layer: nn.Module = nn.ReLU()
            if op == "conv":
                layer = nn.Conv2d(x.shape[1], draw.randint(1, 3), 2, padding=1, stride=draw.randint(1, 2))
            elif op == "back":
                layer = _back(draw, x)
            elif op == "dense":
                layer = nn.Linear(x.shape[-1], draw.randint(2, 4))
            elif op == "move":
                op = draw.choice(list(MOVES))
            elif op == "keep":
                kept = x
            try:
                y = self._applied(op, layer, x, kept)
            except (RuntimeError, IndexError):
                continue  # too small for it
            if 1 < y.numel() <= 150:
                self.sizes.append((x.shape[1:], kept.shape[1:]))
                x = y
                self.layers.append(layer)
                self.ops.append(op)
        self.flatten = nn.Flatten()
        self.head = nn.Sequential(nn.Linear(x.numel(), 5), nn.ReLU(), nn.Linear(5, 3))

    def _applied(self, op: str, layer: nn.Module, x: Tensor, kept: Tensor) -> Tensor:
        if op == "keep":
            return x
        if op == "cat":
            return torch.cat(_fitting(x, kept), 1)
        return MOVES[op](x) if op in MOVES else layer(x)

    def forward(self, x: Tensor) -> Tensor:
        kept = x
        for op, layer in zip(self.ops, self.layers, strict=True):
            x = self._applied(op, layer, x, kept)
            kept = x if op == "keep" else kept
        return self.head(self.flatten(x))

    def dag(self, d: Dag) -> int:
        x = kept = 0
        for op, layer, (own, other) in zip(self.ops, self.layers, self.sizes, strict=True):
            if op == "keep":
                kept = x
            elif op == "cat":
                left = d.affine(lambda t, size=other: torch.cat(_fitting(t, _zeros(t, size)), 1), x)
                right = d.affine(lambda t, size=own: torch.cat(_fitting(_zeros(t, size), t), 1), kept)
                x = d.add(left, right)
            elif op == "relu":
                x = d.relu(x)
            else:
                x = d.affine(MOVES.get(op, layer), x)
        return d.chain(self.head, d.flatten(x))


def _fitting(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The upper left corners that two maps share."""
    height, width = (min(x.shape[axis], y.shape[axis]) for axis in (2, 3))
    return x[:, :, :height, :width], y[:, :, :height, :width]


def _zeros(like: Tensor, size: torch.Size) -> Tensor:
    return like.new_zeros(len(like), *size)


def _back(draw: random.Random, x: Tensor) -> nn.Module:
    groups = draw.choice([1, x.shape[1]])
    stride = draw.randint(1, 2)
    return nn.ConvTranspose2d(
        x.shape[1], groups * draw.randint(1, 2), (draw.randint(1, 3), 2), stride=stride, padding=draw.randint(0, 1),
        output_padding=draw.randint(0, stride - 1), groups=groups, dilation=draw.randint(1, 2),
    )  # fmt: skip


def structured_case(seed: int) -> Case:
    """A case with weights in place."""

    def make() -> nn.Module:
        module = RandomStructure(seed)
        randomise(module, torch.Generator().manual_seed(seed))
        return module

    shape = RandomStructure(seed).input_shape
    return Case(f"structure_{seed}", make, shape, random.Random(seed).choice([0.03, 0.1, 0.2]), trained=True)
