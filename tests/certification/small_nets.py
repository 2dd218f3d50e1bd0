"""Random networks small enough for their exact answer: two to five layers, residual sums and BatchNorm among them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles import dense, exact
from tests.oracles.dag import Dag
from tests.oracles.nets import randomise


class SmallNet(nn.Module):
    """Linear layers with ReLUs between them; some with BatchNorm, some with a skip over the layer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.pixels, self.classes = draw.randint(2, 4), draw.randint(2, 3)
        depth, width = draw.randint(2, 5), draw.randint(3, 6)
        self.first = nn.Linear(self.pixels, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 2))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width) if draw.random() < 0.4 else nn.Identity() for _ in range(depth - 2)
        )
        self.skips = [draw.random() < 0.4 for _ in range(depth - 2)]
        self.last = nn.Linear(width, self.classes)
        randomise(self, torch.Generator().manual_seed(seed))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        for block, norm, skip in zip(self.blocks, self.norms, self.skips, strict=True):
            z = norm(block(h))
            h = torch.relu(z + h if skip else z)
        return self.last(h)

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.first, 0))
        for block, norm, skip in zip(self.blocks, self.norms, self.skips, strict=True):
            z = d.affine(block, h)
            z = z if isinstance(norm, nn.Identity) else d.affine(norm, z)
            h = d.relu(d.add(z, h) if skip else z)
        return d.affine(self.last, h)


@dataclass(frozen=True)
class Task:
    """A network with images and a radius, and the exact answer by methods that share nothing with gls_es."""

    net: SmallNet
    images: Tensor
    labels: Tensor
    eps: float

    @cached_property
    def nodes(self) -> list[dense.Node]:
        return dense.dense_nodes(self.net, None, (self.net.pixels,))

    def box(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        x = self.images[image].double().numpy()
        return np.clip(x - self.eps, 0, 1), np.clip(x + self.eps, 0, 1)

    def bounds(self, image: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return dense.backward_bounds(self.nodes, self.box(image), "adaptive")

    def unstable(self, image: int) -> int:
        return sum(int(((low < 0) & (up > 0)).sum()) for low, up in self.bounds(image).values())

    def minima(self, image: int) -> list[float]:
        """The exact minimum of every margin: cells of the ReLU patterns where they are few, big-M elsewhere."""
        find = exact.cell_minimum if self.unstable(image) <= 4 else exact.milp_minimum
        rows = dense.margin_matrix(self.net.classes, int(self.labels[image]))
        return [find(self.nodes, self.box(image), self.bounds(image), row) for row in rows]


def small_task(seed: int, images: int = 2) -> Task:
    """A task whose radius makes some of its ReLUs unstable; images are labelled as the network classifies them."""
    net = SmallNet(seed)
    x = torch.rand(images, net.pixels, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        labels = net(x).argmax(dim=1)
    return Task(net, x, labels, random.Random(seed).choice([0.05, 0.1, 0.2, 0.3]))
