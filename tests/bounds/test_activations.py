"""Networks with activations other than ReLU, under every method: sound, the same member by member, differentiable."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es import bounds
from tests.oracles.activations import ACTIVATIONS, SPELLINGS, conv_net, dense_net, residual_net
from tests.oracles.api import METHODS
from tests.oracles.problems import margins_of

NETS = {"dense": (dense_net, (5,)), "conv": (conv_net, (1, 7, 7)), "residual": (residual_net, (4,))}
EVERY = [*ACTIVATIONS, "max of two", "min of two", "prelu by channel", "F"]
FEW = ("clamp", "gelu", "hardswish", "prelu", "selu", "tanh")


@lru_cache(maxsize=8)
def task(name: str, kind: str) -> tuple[nn.Module, gls_es.Network, Tensor, Tensor, Tensor, Tensor]:
    """A module, its network, the ends of two boxes, labels and three members, in float64."""
    build, shape = NETS[kind]
    module = build((ACTIVATIONS | SPELLINGS)[name]).double()
    net = gls_es.Network(module, shape)
    generator = torch.Generator().manual_seed(8)
    centre = torch.rand((2, *shape), generator=generator, dtype=torch.float64)
    radius = torch.tensor([0.05, 0.3], dtype=torch.float64).reshape(2, *[1] * len(shape))
    noise = torch.randn((3, net.num_parameters), generator=generator, dtype=torch.float64)
    noise[0] = 0.0
    params = net.parameter_vector() + 0.2 * noise
    return module, net, centre - radius, centre + radius, torch.tensor([0, 2]), params


def _kinds(name: str) -> list[str]:
    return ["dense", "residual"] if name in ("prelu by channel",) else list(NETS)


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n in EVERY for k in (_kinds(n) if n in FEW else ["dense"])])
def test_no_sampled_value_escapes(name: str, kind: str) -> None:
    """Samples and corners, for every method; the guard covers the rounding of this comparison."""
    _, net, lower, upper, labels, params = task(name, kind)
    generator = torch.Generator().manual_seed(9)
    unit = torch.rand((400, *lower.shape), generator=generator, dtype=torch.float64)
    unit[:200] = unit[:200].round()
    points = lower + unit * (upper - lower)
    seen = []
    for member in params:
        module = net.module(member)
        with torch.no_grad():
            seen.append([margins_of(module(points[:, i]), label).amin(0) for i, label in enumerate(labels.tolist())])
    least = torch.stack([torch.stack(of_member) for of_member in seen])
    for method in METHODS:
        with torch.no_grad():
            found = bounds.margins(net, lower, upper, labels, method=method, params=params)
        assert (found <= least + 1e-12 * (1 + least.abs())).all(), method


@pytest.mark.parametrize("method", ["ibp", "hbox", "deepz", "crown-ibp", "crown-unstable"])
@pytest.mark.parametrize("name", FEW)
def test_population_is_a_loop_over_members(name: str, method: str) -> None:
    _, net, lower, upper, labels, params = task(name, "conv" if name == "tanh" else "dense")
    with torch.no_grad():
        together = bounds.margins(net, lower, upper, labels, method=method, params=params)
        layers = bounds.preactivations(net, lower, upper, method=method, params=params)
        for p in range(len(params)):
            own = params[p : p + 1]
            alone = bounds.margins(net, lower, upper, labels, method=method, params=own)
            torch.testing.assert_close(together[p : p + 1], alone, rtol=1e-11, atol=1e-11)
            for both, one in zip(
                layers, bounds.preactivations(net, lower, upper, method=method, params=own), strict=True
            ):
                for side, single in zip(both, one, strict=True):
                    torch.testing.assert_close(side[p : p + 1], single, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["ibp", "deepz", "crown-ibp", "crown"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_those_of_differences(name: str, method: str) -> None:
    _, net, lower, upper, labels, params = task(name, "dense")
    generator = torch.Generator().manual_seed(10)
    direction = torch.randn(params.shape, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)

    def loss(weights: Tensor) -> Tensor:
        return bounds.margins(net, lower, upper, labels, method=method, params=weights).sum((1, 2))

    leaf = params.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    step = 1e-6
    with torch.no_grad():
        difference = (loss(params + step * direction) - loss(params - step * direction)) / (2 * step)
    scale = 1 + gradient.norm(dim=1)
    assert ((difference - (gradient * direction).sum(1)).abs() <= 1e-5 * scale).all()


@pytest.mark.parametrize("method", ["ibp", "deepz", "crown", "crown-one"])
@pytest.mark.parametrize("name", ["sigmoid", "abs", "hardswish", "silu"])
def test_boxes_without_width_give_the_margins_and_finite_gradients(name: str, method: str) -> None:
    module, net, lower, upper, labels, _ = task(name, "dense")
    x = (lower + upper) / 2
    leaf = net.parameter_vector()[None].requires_grad_()
    found = bounds.margins(net, x, x, labels, method=method, params=leaf)
    with torch.no_grad():
        expected = torch.stack([margins_of(module(x), y)[i] for i, y in enumerate(labels.tolist())])
    torch.testing.assert_close(found[0].detach(), expected, rtol=1e-7, atol=1e-7)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert gradient.isfinite().all()


def test_a_curve_is_bounded_by_itself_where_one_neuron_is_the_network() -> None:
    """The interval of |z| on [-1, 2] is [0, 2], and crown's lower line is one of its sides."""
    module = nn.Sequential(nn.Linear(1, 1), ACTIVATIONS["abs"](), nn.Linear(1, 2)).double()
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), ([[1.0]], [0.0], [[1.0], [0.0]], [0.0, 0.0]), strict=True):
            parameter.copy_(torch.tensor(value))
    net = gls_es.Network(module, (1,))
    box = torch.tensor([[-1.0]]).double(), torch.tensor([[2.0]]).double()
    found = {
        m: bounds.margins(net, *box, torch.tensor([0]), method=m).item() for m in ("ibp", "hbox", "crown", "deepz")
    }
    assert found == pytest.approx({"ibp": 0.0, "hbox": 0.0, "crown": -1.0, "deepz": -1 / 3})
    upper = {m: -bounds.margins(net, *box, torch.tensor([1]), method=m).item() for m in ("ibp", "crown")}
    assert upper == pytest.approx({"ibp": 2.0, "crown": 2.0})
