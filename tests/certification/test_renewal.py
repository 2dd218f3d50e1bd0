"""Bounds of parts of boxes that go on from those of the boxes, against exact minima and executed values."""

from dataclasses import replace

import pytest
import torch
from small_nets import Task, small_task
from torch import Tensor, nn

from gls_es.bounds.affine import margins_and_reach
from gls_es.bounds.query import Query
from gls_es.certification import renewal
from gls_es.certification.renewal import Bounds, crown_bounds, narrowed, reach, renewed, share_worth
from gls_es.certification.rounding import sound_query
from gls_es.network import Network
from gls_es.network.graph import Conv


def _ask(net: Network, lower: Tensor, upper: Tensor) -> Query:
    return sound_query(net, lower, upper, execution="float32")


def _known(net: Network, wide: tuple[Tensor, Tensor], part: tuple[Tensor, Tensor]) -> Bounds:
    """What is known of a part: ``affine`` on it, and ``crown`` on the box that it lies in."""
    affine = _ask(net, *part)
    margins_and_reach(affine, torch.zeros(1, dtype=torch.int64))
    _, whole = crown_bounds(_ask(net, *wide))
    pairs = {relu: (affine.bounds[relu], whole[relu]) for relu in whole}
    return {i: (torch.maximum(a[0][0], b[0]), torch.minimum(a[1][0], b[1])) for i, (a, b) in pairs.items()}


def _ends(task: Task) -> tuple[Tensor, Tensor]:
    low, up = (torch.from_numpy(end)[None] for end in task.box(0))
    return low, up


@pytest.mark.parametrize("share", [0.0, 2.0], ids=["all neurons", "chosen ones"])
def test_rows_of_a_part_are_below_their_exact_minima(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Balls within balls; and hardly worse than ``crown`` on the smaller one alone, which is what they stand for."""
    monkeypatch.setattr(renewal, "share_worth", lambda *_: share)
    better = 0
    for seed in range(12):
        whole = small_task(seed, images=1)
        part = replace(whole, eps=whole.eps / 2)
        ends = [_ends(task) for task in (whole, part)]
        swap = torch.tensor([int(whole.labels[0]), *(j for j in range(whole.net.classes) if j != int(whole.labels[0]))])
        last = nn.Linear(whole.net.classes, whole.net.classes, bias=False)
        with torch.no_grad():  # the label becomes class 0
            last.weight.copy_(torch.eye(whole.net.classes)[swap])
        net = Network(nn.Sequential(whole.net, last).eval(), (whole.net.pixels,))
        known = _known(net, *ends)
        rows, found = narrowed(_ask(net, *ends[1]), known)
        exact = torch.tensor(part.minima(0), dtype=torch.float64)
        assert (rows[0] <= exact + 1e-9).all(), seed
        assert all((found[i][0] >= known[i][0]).all() and (found[i][1] <= known[i][1]).all() for i in known)
        alone, _ = crown_bounds(_ask(net, *ends[1]))
        better += bool((rows[0] >= alone[0] - 0.05 * alone[0].abs()).all())
    assert better >= 9


class Small(nn.Module):
    """Three inputs, a map of them, convolutions with a sum of branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 2 * 36), nn.Linear(4 * 9, 3)
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.three = nn.Conv2d(4, 4, 3, padding=1)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / max(1.0, p[0].numel()) ** 0.5)

    def inputs(self, x: Tensor) -> list[Tensor]:
        """What the ReLUs get."""
        z = [self.one(self.first(x).unflatten(1, (2, 6, 6)))]
        z.append(self.two(z[0].relu()))
        h = z[1].relu()
        z.append(self.three(h) + h)
        return z

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.inputs(x)[2].relu().flatten(1))
        return outputs


@pytest.mark.parametrize("share", [None, 0.0, 2.0], ids=["as it is", "all neurons", "chosen ones"])
def test_maps_hold_what_is_executed(share: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if share is not None:
        monkeypatch.setattr(renewal, "share_worth", lambda *_: share)
    module = Small().eval()
    net = Network(module, (3,))
    wide = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    part = wide[0].clone(), torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64)
    rows, found = narrowed(_ask(net, *part), _known(net, wide, part))
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[:2000] = points[:2000].round()  # corners
    points = points * part[1]
    with torch.no_grad():
        outputs, executed = module.double()(points), module.inputs(points)
    margins = outputs[:, :1] - outputs[:, 1:]
    assert (margins >= rows).all()
    spread = margins.amax(dim=0) - margins.amin(dim=0)
    assert (margins.amin(dim=0) - rows[0] < 2 * spread).all()
    unstable = 0
    for (low, up), value in zip(found.values(), executed, strict=True):
        assert (value >= low).all()
        assert (value <= up).all()
        unstable += int(((low < 0) & (up > 0)).sum())
    assert unstable > 20


def test_chosen_neurons_have_the_bounds_of_a_pass_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network(Small().eval(), (3,))
    ends = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.5, 0.2]], dtype=torch.float64)
    found = []
    for share in (0.0, 2.0):
        query = _ask(net, *ends)
        crown_bounds(query)
        relu = query.relus[-1]
        monkeypatch.setattr(renewal, "NEGLIGIBLE_HEIGHT", 0.0)
        monkeypatch.setattr(renewal, "share_worth", lambda *_, share=share: share)
        low = torch.full_like(query.bounds[relu][0][0], -5.0)
        found.append(renewed(query, query.source(relu), low, -0.9 * low))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert bool((found[0][0] > -5.0).all())


def test_windows_are_less_work_in_front_and_not_behind() -> None:
    graph = Network(Small().eval(), (3,)).graph
    convolutions = [index for index, node in enumerate(graph.nodes) if isinstance(node, Conv)]
    shares = [share_worth(graph, index) for index in convolutions]
    assert shares[0] < shares[1] < shares[2] <= 1
    assert share_worth(graph, graph.output) == 1


def test_reach_of_an_affine_map_is_coefficient_times_radius() -> None:
    layer = nn.Linear(3, 3)
    net = Network(nn.Sequential(_shifted(), nn.ReLU(), layer), (3,))
    lower = torch.zeros(2, 3, dtype=torch.float64)
    upper = torch.tensor([[1.0, 0.5, 0.25], [0.5, 0.5, 0.5]], dtype=torch.float64)
    query = _ask(net, lower, upper)
    crown_bounds(query)
    weight = layer.weight.detach().double()
    wanted = (weight[0] - weight[[2, 1]]).abs() * upper / 2
    torch.testing.assert_close(reach(query, torch.tensor([1, 0])), wanted, rtol=1e-5, atol=1e-6)


def _shifted() -> nn.Linear:
    """x + 10: all neurons behind it are active."""
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))
        layer.bias.fill_(10.0)
    return layer
