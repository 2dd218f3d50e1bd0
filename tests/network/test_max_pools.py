"""Maximum pooling as maxima of two: the graph computes what PyTorch does, and bounds hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gls_es import Network, bounds, certify
from gls_es.errors import UnsupportedNetworkError

POOLS = {
    "2x2": nn.MaxPool2d(2),
    "padded": nn.MaxPool2d(3, 2, padding=1),
    "dilated": nn.MaxPool2d((2, 3), stride=1, dilation=(3, 2)),
    "uneven": nn.MaxPool2d((1, 4), (2, 1), padding=(0, 2)),
    "one": nn.MaxPool2d(1, 3),
}


def net_of(pool: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), pool, nn.Flatten())
    size = features(torch.zeros(1, 1, 7, 7)).shape[1]
    return nn.Sequential(features, nn.Linear(size, 3))


@pytest.mark.parametrize("name", POOLS)
def test_the_graph_computes_what_the_module_does(name: str) -> None:
    """Negative values at the border, too, where padding must not win."""
    module = net_of(POOLS[name])
    module[0][1] = nn.Identity()
    x = torch.randn(40, 1, 7, 7, dtype=torch.float64)
    net = Network(module.double(), (1, 7, 7))
    torch.testing.assert_close(net.logits(x)[0], module(x))


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("method", ["ibp", "hbox", "deepz", "crown-ibp", "crown", "best"])
def test_no_corner_escapes(name: str, method: str) -> None:
    module, x = net_of(POOLS[name]), torch.rand(5, 1, 7, 7)
    net, labels, eps = Network(module, (1, 7, 7)), module(x).argmax(1), 0.05
    lower = bounds.margins(net, x - eps, x + eps, labels, method=method)[0]
    with torch.no_grad():
        points = x + eps * (2 * torch.randint(0, 2, (300, *x.shape)) - 1)
        logits = module(points.flatten(0, 1)).unflatten(0, (300, 5))
    own = logits.gather(2, labels.expand(300, -1)[..., None])
    others = torch.tensor([[j for j in range(3) if j != y] for y in labels.tolist()])
    reached = (own - logits.gather(2, others.expand(300, -1, -1))).amin(0)
    assert bool((lower <= reached + 1e-5).all())


def test_crown_of_one_maximum_is_the_relu_triangle() -> None:
    """max(a, b), both in [-1, 1]: b + ReLU(a - b) with a - b in [-2, 2] lies in [-1, 2] by the triangle's lines."""
    module = nn.Sequential(nn.MaxPool2d((1, 2)), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        module[2].weight.copy_(torch.tensor([[1.0], [0.0]]))
        module[2].bias.zero_()
    net, box = Network(module, (1, 1, 2)), torch.ones(1, 1, 1, 2)
    least = bounds.margins(net, -box, box, [0], method="crown-zero")
    most = -bounds.margins(net, -box, box, [1], method="crown-zero")
    assert least.item() == pytest.approx(-1.0)
    assert most.item() == pytest.approx(2.0)


def test_certificates_of_a_pool_hold_on_a_grid() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.MaxPool2d((1, 2), stride=1), nn.Flatten(), nn.Linear(2, 2))
    grid = torch.cartesian_prod(*[torch.linspace(-0.2, 0.2, 21)] * 3).reshape(-1, 1, 1, 3)
    seen = set()
    for x in torch.rand(12, 1, 1, 3):
        label = module(x[None]).argmax(1)
        (verdict,) = certify(module, x[None], label, 0.2, clip=False).verdicts
        changed = bool((module(x + grid).argmax(1) != label).any())
        assert not (verdict.verdict == "certified" and changed)
        seen.add(verdict.verdict)
    assert "certified" in seen


@pytest.mark.parametrize("pool", [nn.MaxPool2d(6), nn.MaxPool2d(3, ceil_mode=True)])
def test_options_without_bounds_are_refused(pool: nn.Module) -> None:
    with pytest.raises(UnsupportedNetworkError):
        Network(net_of(pool), (1, 7, 7))


def test_pooling_over_one_axis() -> None:
    module = nn.Sequential(nn.Conv1d(2, 3, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(9, 2)).double()
    net, x = Network(module, (2, 8)), torch.randn(5, 2, 8, dtype=torch.float64)
    torch.testing.assert_close(net.logits(x)[0], module(x))
