"""Loss fusion against its formula for two classes, against sampled points, and against the margins' own rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gls_es import bounds
from gls_es.fitness import Minibatch, Stage, image_losses
from gls_es.network import Network

from .nets import EPS, members, minibatch, network


def value(beta: float) -> Tensor:
    net = network()
    return image_losses(net, minibatch(net, "crown-ibp-fused", crown_ibp_beta=beta), members(net))


def ends() -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper ends of f_j - f_y by intervals, and upper ones by CROWN-IBP; the lower ones by a mirrored net."""
    net = network()
    batch = minibatch(net, "robust")
    low, high = (batch.images - EPS).clamp(min=0), (batch.images + EPS).clamp(max=1)
    upper, tight = (-bounds.margins(net, low, high, batch.labels, m, members(net)) for m in ("ibp", "crown-ibp"))
    start = net.named_slices()["6.weight"].start
    mirrored = members(net)
    mirrored[:, start:] *= -1  # the last layer's weight and bias: all logits change their sign
    lower = bounds.margins(net, low, high, batch.labels, "ibp", mirrored)
    return lower, upper, tight


def chords() -> tuple[Tensor, Tensor]:
    """Slopes and constants of the chords, (n, B, K - 1) each."""
    lower, upper, _ = ends()
    slopes = (upper.exp() - lower.exp()) / (upper - lower)
    return slopes, upper.exp() - slopes * upper


def test_without_a_backward_pass_it_is_the_robust_loss_of_intervals() -> None:
    net = network()
    assert torch.allclose(value(0.0), image_losses(net, minibatch(net, "robust"), members(net)), rtol=1e-10)


def test_it_lies_between_the_worst_point_and_the_chords_of_single_rows() -> None:
    net = network()
    batch = minibatch(net, "robust")
    found = value(1.0)
    slopes, constants = chords()
    _, upper, tight = ends()
    single = torch.log1p((slopes * tight + constants).sum(2))
    assert bool((found <= single * (1 + 1e-12)).all())
    assert bool((found < single - 1e-4).any())  # bounding the sum at once gains
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        signs = torch.randint(-1, 2, batch.images.shape, generator=generator)
        points = (batch.images + EPS * signs).clamp(0, 1)
        for row, member in zip(found, members(net), strict=True):
            assert bool(
                (cross_entropy(net.module(member)(points).detach(), batch.labels, reduction="none") <= row).all()
            )
    mixed = torch.log(0.3 * found.exp() + 0.7 * (1 + upper.exp().sum(2)))
    assert torch.allclose(value(0.3), mixed, rtol=1e-10)


def two_classes(scale: float = 1.0) -> tuple[Network, Tensor, Minibatch]:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    with torch.no_grad():
        module[4].weight *= scale
    net = Network(module, (3,))
    images = torch.rand(5, 3, dtype=torch.float64)
    stage = Stage(0.1, 0.0, "ibp", "crown-ibp-fused", crown_ibp_beta=1.0)
    return net, images, Minibatch.prepare(net, images, torch.tensor([0, 1, 0, 1, 1]), stage)


def test_with_two_classes_the_only_row_is_that_of_the_margin() -> None:
    net, images, batch = two_classes()
    low, high = (images - 0.1).clamp(min=0), (images + 0.1).clamp(max=1)
    upper, tight = (-bounds.margins(net, low, high, batch.labels, m) for m in ("ibp", "crown-ibp"))
    lower = bounds.margins(net, low, high, 1 - batch.labels, "ibp")  # f_y - f_j of the other class
    slope = (upper.exp() - lower.exp()) / (upper - lower)
    wanted = torch.log1p(upper.exp() + slope * (tight - upper))[..., 0]
    found = image_losses(net, batch, net.parameter_vector()[None])
    assert torch.allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-9, 1e4])
def test_it_is_finite_for_logits_of_any_size(scale: float) -> None:
    net, _, batch = two_classes(scale)
    params = net.parameter_vector()[None].requires_grad_()
    found = image_losses(net, batch, params)
    (gradient,) = torch.autograd.grad(found.sum(), params)
    assert bool(torch.isfinite(found).all() and torch.isfinite(gradient).all())
