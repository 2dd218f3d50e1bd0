"""A convolution with stride 1 read backwards on maps that its readers left incomplete."""

import pytest
import torch
from torch import Tensor, nn

from gls_es.bounds import matrix
from tests.bounds.test_equality import check
from tests.oracles.dag import Dag
from tests.oracles.nets import Case


class LeftoverPixel(nn.Module):
    """A residual sum on 7x7 maps, of which a convolution with stride 2 reads 6x6."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.body = nn.Conv2d(2, 2, 3, padding=1)
        self.down = nn.Conv2d(2, 2, 2, stride=2)
        self.last = nn.Linear(18, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        h = torch.relu(h + self.body(h))
        return self.last(torch.flatten(torch.relu(self.down(h)), 1))

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.first, 0))
        h = d.relu(d.add(h, d.affine(self.body, h)))
        return d.affine(self.last, d.flatten(d.relu(d.affine(self.down, h))))


@pytest.mark.parametrize("method", ["crown-ibp", "crown-same", "crown-unstable"])
def test_a_border_is_cut_from_exactly_covered_maps_only(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ``first`` backwards, what lies at the far border counts: cutting it off at both ends lost it."""
    monkeypatch.setattr(matrix, "ALONE", 0.0)  # as maps too large for a matrix go
    monkeypatch.setattr(matrix, "TOGETHER", 0.0)
    check(Case("leftover_pixel", LeftoverPixel, (1, 7, 7), 0.05), method, torch.float64)
