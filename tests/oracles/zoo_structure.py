"""A zoo network whose values are moved, joined, padded and convolved back between its layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.oracles.dag import Dag


class Structure(nn.Module):
    """A U of two branches: split channels, down and up again, joined; a learned offset, rows, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.down = nn.Conv2d(2, 2, 2, stride=2)
        self.up = nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1)
        self.line = nn.Conv1d(4, 3, 3, padding=1)
        self.rows = nn.Linear(16, 5)
        self.offset = nn.Parameter(torch.zeros(3, 1))
        self.last = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.stem(x)).chunk(2, 1)
        h = torch.cat([right.flip(2), self.up(F.relu(self.down(left)))], 1)
        h = F.relu(F.pad(h, (1, -1, 0, 0), value=0.2)).permute(0, 1, 3, 2)
        h = F.relu(self.rows(self.line(h.flatten(2)) + self.offset))
        return self.last(torch.cat([h[:, :, ::2].flatten(1), 0.1 - h.mean(1)[:, 1:4]], 1)[:, [*range(3, 12)]])

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.stem, 0))
        up = d.affine(self.up, d.relu(d.affine(self.down, d.affine(lambda t: t[:, :2], h))))
        right = d.affine(lambda t: F.pad(t[:, 2:].flip(2), (0, 0, 0, 0, 0, 2)), h)
        joined = d.add(right, d.affine(lambda t: F.pad(t, (0, 0, 0, 0, 2, 0)), up))
        h = d.relu(d.affine(lambda t: F.pad(t, (1, -1, 0, 0), value=0.2), joined))
        h = d.affine(lambda t: t.transpose(2, 3).flatten(2), h)
        h = d.relu(d.affine(self.rows, d.affine(lambda t: t + self.offset, d.affine(self.line, h))))
        taken = d.affine(lambda t: F.pad(t[:, :, ::2].flatten(1), (0, 3))[:, 3:], h)
        mean = d.affine(lambda t: F.pad(0.1 - t.mean(1)[:, 1:4], (6, 0)), h)
        return d.affine(self.last, d.add(taken, mean))
