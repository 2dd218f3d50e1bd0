"""Bounds with a model of rounding: true of the executed network, with tolerance zero, for every method."""

from fractions import Fraction

import pytest
import torch
from certification_nets import exact_linear_margin, random_images, random_linear, relu_net
from torch import Tensor, nn

from gls_es.bounds import METHODS, Plan, margins
from gls_es.certification.rounding import outward_ball, sound_margins
from gls_es.network import Network
from tests.oracles.nets import BY_NAME

NETS = (
    "conv_mixed",
    "batch_norm_2d",
    "resnet_pre_activation",
    "pool_overlapping",
    "cancelling",
    "input_skip",
    "relu_twice",
)
EXECUTED = {"float32": torch.float32, "float64": torch.float64}
ORDER = [("ibp", m) for m in ("hbox", "crown-zero", "crown-intersect", "best")]
ORDER += [(m, "best") for m in ("crown-ibp", "crown", "crown-zero", "crown-intersect")]


def _task(name: str, eps: float) -> tuple[Network, Tensor, Tensor, Tensor, Tensor]:
    """A network in float32, images, labels and the box."""
    case = BY_NAME[name]
    net = Network(case.build(), case.input_shape)
    images = random_images(1, 3, *case.input_shape)
    labels = net.logits(images)[0].argmax(1)
    return net, images, labels, *outward_ball(images, eps)


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """f_y - f_j, j ascending: (B, K - 1)."""
    own = logits.gather(1, labels[:, None])
    keep = torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], False)
    return (own - logits)[keep].reshape(len(labels), -1)


@pytest.mark.parametrize("execution", [*EXECUTED, "real"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_sound_margins_are_plain_ones_a_little_lower(name: str, method: str, execution: str) -> None:
    net, _, labels, lower, upper = _task(name, 0.05)
    sound = sound_margins(net, lower, upper, labels, method, execution=execution)
    plain = margins(net, lower, upper, labels, method=method, params=net.parameter_vector().double()[None])[0].detach()
    scale = 1 + float(plain.abs().max())
    assert (sound < plain).all()
    assert float((plain - sound).max()) <= (1e-3 if execution == "float32" else 1e-9) * scale


@pytest.mark.parametrize("execution", EXECUTED)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("eps", [0.0, 1e-7, 0.02])
def test_no_executed_value_is_below(name: str, method: str, execution: str, eps: float) -> None:
    """Points of tiny balls, where rounding is all there is, and of a larger one; no tolerance."""
    net, images, labels, lower, upper = _task(name, eps)
    sound = sound_margins(net, lower, upper, labels, method, execution=execution)
    dtype = EXECUTED[execution]
    generator = torch.Generator().manual_seed(4)
    for _ in range(20):
        noise = torch.randint(-1, 2, images.shape, generator=generator).double()
        x = torch.minimum(torch.maximum(images.double() + noise * eps, lower), upper).to(dtype)
        x = torch.where((x.double() >= lower) & (x.double() <= upper), x, images.to(dtype))
        with torch.no_grad():
            values = _others(net.module().to(dtype)(x).double(), labels)
        assert (sound <= values).all()


@pytest.mark.parametrize("method", METHODS)
def test_linear_networks_are_bounded_below_the_rational_minimum(method: str) -> None:
    """Two classes, so that the one margin is known in exact arithmetic."""
    for seed in range(5):
        module = random_linear(seed, pixels=9, classes=2)
        images = random_images(seed, 4, 9)
        labels = torch.arange(4) % 2
        sound = sound_margins(Network(module, (9,)), *outward_ball(images, 0.1), labels, method, execution="real")
        for image, label, bound in zip(images, labels.tolist(), sound[:, 0].tolist(), strict=True):
            exact = exact_linear_margin(module, image, label, 0.1)
            assert exact - Fraction(1, 10**9) < Fraction(bound) <= exact


@pytest.mark.parametrize("method", METHODS)
def test_an_error_of_a_hidden_layer_reaches_the_margin(method: str) -> None:
    """The hidden neuron sums 1 + 2^25 - 2^25: in float32 that is 1 or, in another order, 0."""
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for layer in (0, 2, 4):
            module[layer].bias.zero_()
        module[0].weight.copy_(torch.eye(3))
        module[2].weight.copy_(torch.tensor([[1.0, 2.0**25, -(2.0**25)]]))
        module[4].weight.copy_(torch.tensor([[1.0], [0.0]]))
        module[4].bias[0] = -0.5
    one, large = torch.tensor(1.0), torch.tensor(2.0**25)
    assert float((one + large) - large) == 0.0
    net, box = Network(module, (3,)), outward_ball(torch.ones(1, 3), 0.0)
    in_float32, in_float64 = (
        float(sound_margins(net, *box, torch.tensor([0]), method, execution=execution)) for execution in EXECUTED
    )
    assert in_float32 <= -0.5
    assert 0.499 < in_float64 < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_what_may_overflow_is_not_bounded(method: str) -> None:
    module = relu_net(0, (4, 5, 3))
    with torch.no_grad():
        module[1].weight.mul_(1e38)
        module[3].weight.mul_(1e10)
    sound = sound_margins(
        Network(module, (4,)), *outward_ball(random_images(0, 2, 4), 0.1), torch.tensor([0, 1]), method
    )
    assert not (sound.isfinite() & (sound > 0)).any()


@pytest.mark.parametrize(("below", "above"), ORDER)
@pytest.mark.parametrize("execution", [*EXECUTED, "real"])
@pytest.mark.parametrize("name", NETS)
def test_orders_survive_rounding(name: str, execution: str, below: str, above: str) -> None:
    """Up to the rounding of float64: certification relies on ``best`` alone where it is asked for."""
    net, _, labels, lower, upper = _task(name, 0.05)
    one, other = (sound_margins(net, lower, upper, labels, m, execution=execution) for m in (below, above))
    guard = 1e-6 if execution == "float32" and above == "hbox" else 1e-12
    assert (one <= other + guard * (1 + other.abs().max())).all()


@pytest.mark.parametrize("method", ["deepz", "hbox", "crown-intersect", "best"])
def test_chunks_do_not_matter(method: str) -> None:
    net, _, labels, lower, upper = _task("resnet_pre_activation", 0.05)
    whole = sound_margins(net, lower, upper, labels, method)
    pieces = sound_margins(net, lower, upper, labels, method, plan=Plan(1))
    torch.testing.assert_close(pieces, whole, rtol=1e-11, atol=1e-11)
