"""Guarded bounds computed in float32: true of the executed network with tolerance zero, and close enough to help."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from certification_nets import exact_linear_margin, random_images, random_linear, relu_net
from torch import Tensor, nn

from gls_es.bounds import margins
from gls_es.certification.rounding import outward_ball, sound_margins
from gls_es.certification.screen import SCREENED, screened_margins, single_margins
from gls_es.network import Network
from tests.oracles.nets import BY_NAME

NETS = ("conv_mixed", "batch_norm_2d", "resnet_pre_activation", "pool_overlapping", "cancelling", "relu_twice")


def _task(name: str, eps: float) -> tuple[Network, Tensor, Tensor, Tensor, Tensor]:
    case = BY_NAME[name]
    net = Network(case.build(), case.input_shape)
    images = random_images(1, 3, *case.input_shape)
    return net, images, net.logits(images)[0].argmax(1), *outward_ball(images, eps)


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])
    keep = torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], False)
    return (own - logits)[keep].reshape(len(labels), -1)


@pytest.mark.parametrize("method", SCREENED)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("eps", [0.0, 1e-7, 0.02])
def test_no_executed_value_is_below(name: str, method: str, eps: float) -> None:
    net, images, labels, lower, upper = _task(name, eps)
    found = single_margins(net, lower, upper, labels, method)
    generator = torch.Generator().manual_seed(4)
    for dtype in (torch.float32, torch.float64):
        for _ in range(10):
            noise = torch.randint(-1, 2, images.shape, generator=generator).double()
            x = torch.minimum(torch.maximum(images.double() + noise * eps, lower), upper).to(dtype)
            x = torch.where((x.double() >= lower) & (x.double() <= upper), x, images.to(dtype))
            with torch.no_grad():
                assert (found <= _others(net.module().to(dtype)(x).double(), labels)).all()


@pytest.mark.parametrize("method", SCREENED)
@pytest.mark.parametrize("name", NETS)
def test_they_are_float64_bounds_a_little_lower(name: str, method: str) -> None:
    """Below what is proven without rounding in float64, by no more than the guard explains."""
    net, _, labels, lower, upper = _task(name, 0.05)
    found = single_margins(net, lower, upper, labels, method)
    plain = margins(net, lower, upper, labels, method=method, params=net.parameter_vector().double()[None])[0].detach()
    assert (found < plain).all()
    assert float((plain - found).max()) <= 0.05 * (1 + float(plain.abs().max()))


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-42, 1e5])
@pytest.mark.parametrize("method", SCREENED)
def test_linear_networks_are_bounded_below_the_rational_minimum(method: str, scale: float) -> None:
    """Also where products underflow, and where the box' radius does."""
    for seed in range(4):
        module = random_linear(seed, pixels=9, classes=2)
        with torch.no_grad():
            module[1].weight.mul_(scale)
        images = random_images(seed, 4, 9)
        labels = torch.arange(4) % 2
        for eps in (0.1, 1e-45):
            found = single_margins(Network(module, (9,)), *outward_ball(images, eps), labels, method)[:, 0]
            for image, label, bound in zip(images, labels.tolist(), found.tolist(), strict=True):
                exact = exact_linear_margin(module, image, label, eps)
                assert Fraction(bound) <= exact
                assert Fraction(bound) >= exact - Fraction(1, 20) * (1 + Fraction(scale))


@pytest.mark.parametrize("method", SCREENED)
def test_a_coefficient_that_underflows_proves_nothing(method: str) -> None:
    """Layers of 2^-80, 2^-80 and 2^150: float32 loses what the last one brings back."""
    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for layer, weight in ((0, 2.0**-80), (2, 2.0**-80), (4, 2.0**127)):
            module[layer].bias.zero_()
            module[layer].weight.fill_(weight)
        module[4].weight[1] = 0.0
        module[4].weight[0].neg_()
        module[4].bias[0] = 2.0**-40
    net, box = Network(module, (1,)), outward_ball(torch.ones(1, 1), 0.0)
    assert not (single_margins(net, *box, torch.tensor([0]), method) > 0).any()


@pytest.mark.parametrize("method", SCREENED)
def test_what_may_overflow_is_not_bounded(method: str) -> None:
    module = relu_net(0, (4, 5, 3))
    with torch.no_grad():
        module[1].weight.mul_(1e38)
        module[3].weight.mul_(1e10)
    box = outward_ball(random_images(0, 2, 4), 0.1)
    for found in (single_margins, screened_margins):
        assert not (found(Network(module, (4,)), *box, torch.tensor([0, 1]), method) > 0).any()


@pytest.mark.parametrize("method", SCREENED)
def test_what_float64_certifies_is_certified(method: str) -> None:
    """At small radii float32 does it; just below the largest radius that float64 certifies, float64 has to."""
    net, images, labels, _, _ = _task("conv_mixed", 0.0)

    def proven(bounds: Callable[..., Tensor], eps: float) -> Tensor:
        return (bounds(net, *outward_ball(images, eps), labels, method) > 0).all(1)

    least, most = 0.0, 0.2
    for _ in range(24):
        middle = (least + most) / 2
        least, most = (middle, most) if proven(sound_margins, middle).any() else (least, middle)
    for eps in (least / 2, least, most):
        assert torch.equal(proven(screened_margins, eps), proven(sound_margins, eps))
    assert proven(single_margins, least / 2).any()
    assert not proven(single_margins, least).any()
    box = outward_ball(images, least)
    plain = sound_margins(net, *box, labels, method)
    assert torch.equal(screened_margins(net, *box, labels, method, screen=False), plain)


def test_weights_that_float32_cannot_hold_are_not_screened() -> None:
    case = BY_NAME["batch_norm_2d"]
    net = Network(case.build().double(), case.input_shape)
    images = random_images(1, 3, *case.input_shape)
    labels, box = net.logits(images.double())[0].argmax(1), outward_ball(images, 0.01)
    assert torch.equal(screened_margins(net, *box, labels, "ibp"), sound_margins(net, *box, labels, "ibp"))
