"""A zoo network whose values are moved, joined, padded and convolved back between its layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.oracles.dag import Dag


class Joined(nn.Module):
    """Channels of branches joined, split and left out on maps so large that backward passes stay on windows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, (1, 3), padding=(0, 1))
        self.mix, self.down = nn.Conv2d(4, 3, 2, stride=2), nn.Conv2d(3, 2, 3, padding=1)
        self.fc = nn.Linear(2 * 5 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        h = F.relu(self.mix(torch.cat([F.relu(self.wide(h)), h.flip(1)], 1)))
        h = torch.cat([h[:, 2:], torch.full_like(h[:, :1], 0.5), h[:, :1]], 1)
        return self.fc(F.relu(self.down(h)).flatten(1))

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.stem, 0))
        wide = d.affine(lambda t: F.pad(t, (0, 0, 0, 0, 0, 2)), d.relu(d.affine(self.wide, h)))
        h = d.add(wide, d.affine(lambda t: F.pad(t.flip(1), (0, 0, 0, 0, 2, 0)), h))
        h = d.relu(d.affine(self.mix, h))
        h = d.affine(lambda t: torch.cat([t[:, 2:], 0 * t[:, :1] + 0.5, t[:, :1]], 1), h)
        return d.affine(self.fc, d.flatten(d.relu(d.affine(self.down, h))))


class Structure(nn.Module):
    """A U of two branches: split channels, down and up again, joined; a learned offset, rows, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.down = nn.Conv2d(2, 2, 2, stride=2)
        self.up = nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1)
        self.line = nn.Conv1d(4, 3, 3, padding=1)
        self.rows = nn.Linear(16, 5)
        self.matrix = nn.Parameter(torch.zeros(5, 5))  # a parameter that is multiplied as (in, out)
        self.offset = nn.Parameter(torch.zeros(3, 1))
        self.last = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.stem(x)).chunk(2, 1)
        h = torch.cat([right.flip(2), self.up(F.relu(self.down(left)))], 1)
        h = F.relu(F.pad(h, (1, -1, 0, 0), value=0.2)).permute(0, 1, 3, 2)
        h = F.relu(self.rows(self.line(h.flatten(2)) + self.offset)) @ self.matrix
        return self.last(torch.cat([h[:, :, ::2].flatten(1), 0.1 - h.mean(1)[:, 1:4]], 1)[:, [*range(3, 12)]])

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.stem, 0))
        up = d.affine(self.up, d.relu(d.affine(self.down, d.affine(lambda t: t[:, :2], h))))
        right = d.affine(lambda t: F.pad(t[:, 2:].flip(2), (0, 0, 0, 0, 0, 2)), h)
        joined = d.add(right, d.affine(lambda t: F.pad(t, (0, 0, 0, 0, 2, 0)), up))
        h = d.relu(d.affine(lambda t: F.pad(t, (1, -1, 0, 0), value=0.2), joined))
        h = d.affine(lambda t: t.transpose(2, 3).flatten(2), h)
        h = d.relu(d.affine(self.rows, d.affine(lambda t: t + self.offset, d.affine(self.line, h))))
        h = d.affine(lambda t: t @ self.matrix, h)
        taken = d.affine(lambda t: F.pad(t[:, :, ::2].flatten(1), (0, 3))[:, 3:], h)
        mean = d.affine(lambda t: F.pad(0.1 - t.mean(1)[:, 1:4], (6, 0)), h)
        return d.affine(self.last, d.add(taken, mean))
