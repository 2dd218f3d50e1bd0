"""What is made once for a box whose neurons are split: slopes of layers, prices, a network without dead neurons."""

import pytest
import torch
from certification_nets import relu_net
from small_nets import small_task
from torch import Tensor, nn

from gls_es.bounds.curved import curve_of
from gls_es.bounds.nodes import backward_bounds
from gls_es.certification.alive import without_dead
from gls_es.certification.alpha import climbed
from gls_es.certification.ascent import Ascent
from gls_es.certification.dual import Balls, adaptive_slopes, sloped
from gls_es.certification.prices import prices
from gls_es.certification.shared import Shared, narrowed_balls, shared_slopes, take
from gls_es.network import Network
from tests.oracles.activations import ACTIVATIONS


def _balls(net: Network, low: Tensor, up: Tensor, execution: str = "float32") -> Balls:
    label = torch.zeros(1, dtype=torch.int64)
    return Balls.around(net, low[None].double(), up[None].double(), label, execution=execution, method="crown")


def _net(seed: int, *widths: int) -> Network:
    return Network(relu_net(seed, widths), (widths[0],))


def _inputs(net: Network, points: Tensor) -> list[Tensor]:
    """Every ReLU's input, as PyTorch computes it."""
    found = []
    for layer in net.module().double():
        if isinstance(layer, nn.ReLU | nn.Sigmoid | nn.Tanh):
            found.append(points)
        points = layer(points)
    return found


def _bounds(balls: Balls, shared: Shared) -> list[tuple[Tensor, Tensor]]:
    """Guarded bounds of every layer behind the first with the slopes given."""
    query = balls.proof.selected(torch.zeros(1, dtype=torch.int64))
    found = []
    with torch.no_grad():
        for relu in query.relus[1:]:
            take(query, shared[relu])
            low, up = backward_bounds(query, query.source(relu))
            query.bounds[relu] = torch.maximum(low, query.bounds[relu][0]), torch.minimum(up, query.bounds[relu][1])
            found.append((low[0, 0], up[0, 0]))
    return found


def test_shared_slopes_narrow_bounds_and_leave_no_value_outside() -> None:
    """5,000 inputs and corners of each of ten networks; the sum of all widths falls by 2 % and more (3.3)."""
    before, after = 0.0, 0.0
    for seed in range(10):
        net = _net(seed, 6, 12, 12, 12, 3)
        centre = torch.rand(6, generator=torch.Generator().manual_seed(seed))
        balls = _balls(net, centre - 0.15, centre + 0.15)
        query = balls.search.selected(torch.zeros(1, dtype=torch.int64))
        adaptive = {
            relu: {i: adaptive_slopes(query.node(i), *(v[0] for v in query.bounds[i])) for i in query.relus[:place]}
            for place, relu in enumerate(query.relus)
        }
        fixed, found = _bounds(balls, adaptive), _bounds(balls, shared_slopes(query))
        unit = torch.rand(5000, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        unit[2500:] = unit[2500:].round()
        low_end, up_end = (centre - 0.15).double(), (centre + 0.15).double()
        values = _inputs(net, torch.lerp(low_end, up_end, unit))[1:]
        for z, (low, up), (wide_low, wide_up) in zip(values, found, fixed, strict=True):
            assert ((low <= z) & (z <= up)).all(), seed
            before += float((wide_up - wide_low).sum())
            after += float((up - low).sum())
    assert after < 0.98 * before, (before, after)


def test_prices_of_a_chain_are_its_factors() -> None:
    """z1 in [-1, 1], z2 = a relu(z1) - 1/4, f = -w relu(z2) + 1/8: raised upper lines cost w a and w, by hand."""
    a, w = 1.5, 0.5
    first, second, last = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 2)
    with torch.no_grad():
        for layer, weight, bias in ((first, 2.0, -1.0), (second, a, -0.25)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
        last.weight.copy_(torch.tensor([[-w], [0.0]]))
        last.bias.copy_(torch.tensor([0.125, 0.0]))
    net = Network(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last), (1,))
    query = _balls(net, torch.zeros(1), torch.ones(1)).search
    relus = query.relus
    found = prices(query, {relus[1]: {relus[0]: torch.zeros(1, 1)}})
    assert float(found[relus[0]]) == pytest.approx(w * a, rel=1e-4)
    assert float(found[relus[1]]) == pytest.approx(w, rel=1e-4)


def test_without_dead_neurons_every_bound_is_the_same() -> None:
    """Skips and BatchNorm among them; whatever the slopes are. Without roundings: more terms err more."""
    dropped = 0
    for seed in range(12):
        task = small_task(seed, images=1)
        low, up = (torch.from_numpy(end) for end in task.box(0))
        whole = _balls(Network(task.net, (task.net.pixels,)), low, up, "real")
        small = without_dead(whole)
        dropped += sum(whole.proof.bounds[i][0].numel() - small.proof.bounds[i][0].numel() for i in whole.proof.relus)
        column = torch.arange(task.net.classes - 1)
        for share in (0.0, 0.3, 1.0):
            bounds = []
            for balls in (whole, small):
                goals = balls.goals(torch.zeros_like(column), column)
                goals.slopes.update({i: torch.full_like(v, share) for i, v in goals.slopes.items()})
                bounds.append(balls.proven_bounds(goals))
            torch.testing.assert_close(bounds[1], bounds[0], rtol=1e-9, atol=1e-9)
    assert dropped >= 10, dropped


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_lines_of_any_slopes_enclose_their_curve(name: str) -> None:
    """100 intervals, wide and narrow, 41 points of each; the slopes of both sides are random, beyond [0, 1]."""
    curve = ACTIVATIONS[name]()
    net = Network(nn.Sequential(curve, nn.Linear(1, 2)).double(), (1,))
    generator = torch.Generator().manual_seed(5)
    middle, radius, below, above = torch.rand(4, 1, 100, 1, generator=generator, dtype=torch.float64)
    middle, radius = 6 * (2 * middle - 1), 4 * radius**3
    low, up = middle - radius, middle + radius
    for node in (net.graph.nodes[index] for index in net.graph.relus()):
        if node.inputs != (0,):
            continue  # of several that make one activation, those that read the input
        lines = sloped(node, low, up, None, 2 * below - 0.5, above=2 * above - 0.5)
        z = torch.lerp(low, up, torch.linspace(0, 1, 41, dtype=torch.float64))
        with torch.no_grad():
            value = z.relu() if curve_of(node) is None else curve_of(node).value(z)
        middle_line, half = lines.mean * z + lines.mean_offset, lines.half * z + lines.half_offset
        assert ((value - middle_line).abs() <= half + 1e-12 * (1 + value.abs())).all()


def _bent(seed: int, kind: type[nn.Module]) -> Network:
    """Deep, with weights large enough for every curve to bend."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in [(4, 12), (12, 12), (12, 12), (12, 12), (12, 3)]:
        layer = nn.Linear(before, after)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(after, before, generator=generator) * 4 / before**0.5)
            layer.bias.copy_(-layer.weight.sum(dim=1) / 2)
        layers += [layer, kind()]
    return Network(nn.Sequential(*layers[:-1]), (4,))


@pytest.mark.parametrize(("kind", "gain"), [(nn.Sigmoid, 0.01), (nn.Tanh, 0.05), (nn.ReLU, 0.002)])
def test_narrowed_balls_hold_what_is_executed(kind: type[nn.Module], gain: float) -> None:
    """3,000 inputs and corners, of every layer and of the margins; the last layers' widths fall by a share."""
    before, after, raised = 0.0, 0.0, 0
    for seed in range(2):
        net = _bent(seed, kind)
        centre = torch.rand(4, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.1
        balls = _balls(net, centre - 0.04, centre + 0.04)
        narrow = narrowed_balls(balls)
        unit = torch.rand(3000, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        unit[1500:] = unit[1500:].round()
        points = torch.lerp((centre - 0.04).double(), (centre + 0.04).double(), unit)
        for relu, z in zip(narrow.proof.relus, _inputs(net, points), strict=True):
            (low, up), (wide_low, wide_up) = (side.proof.bounds[relu] for side in (narrow, balls))
            assert ((low[0, 0] <= z) & (z <= up[0, 0])).all(), (seed, relu)
            assert ((low >= wide_low) & (up <= wide_up)).all()
        before += float((wide_up - wide_low).sum())
        after += float((up - low).sum())
        with torch.no_grad():
            logits = net.module().double()(points)
        least = (logits[:, :1] - logits[:, 1:]).amin(dim=0)
        column = torch.arange(2)
        bounds = [
            b.proven_bounds(climbed(b, b.goals(torch.zeros_like(column), column), Ascent(steps=8)))
            for b in (balls, narrow)
        ]
        assert (bounds[1] <= least).all(), seed
        raised += int((bounds[1] > bounds[0]).sum())
    assert after < (1 - gain) * before, (before, after)
    assert raised >= 3, raised
