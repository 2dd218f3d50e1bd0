"""TAPS and STAPS: their ends, the split, the attack against enumeration, and the gradient connector by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gls_es import bounds
from gls_es.bounds import Plan
from gls_es.fitness import Attack, Minibatch, Stage, image_losses, mean_gradient
from gls_es.fitness.cc_ibp import point_margins
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.split import cut, embeddings, logits_behind
from gls_es.fitness.taps import _connected, taps_margins
from gls_es.network import Network
from gls_es.network.graph import ReLU

from .nets import EPS, members, minibatch, network

PLAN = Plan.default("cpu")


def margins(relus: int, **options: Any) -> Tensor:
    net = network()
    batch = minibatch(net, "taps", taps_relus=relus, **options)
    return taps_margins(net, batch, batch.box, members(net), PLAN)


def value(loss: str, **options: Any) -> Tensor:
    net = network()
    return image_losses(net, minibatch(net, loss, **options), members(net))


def bounded(method: str) -> Tensor:
    net = network()
    batch = minibatch(net, "robust")
    lower, upper = (batch.images - EPS).clamp(min=0), (batch.images + EPS).clamp(max=1)
    return bounds.margins(net, lower, upper, batch.labels, method, members(net))


@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_with_linear_layers_behind_the_split_the_attack_is_exact(method: str) -> None:
    """It then finds what intervals say of the last layer; those of ``method`` hold before it."""
    found = margins(0, method=method)
    if method == "ibp":
        assert torch.allclose(found, bounded("ibp"), rtol=1e-10)
    net = network()
    batch = minibatch(net, "taps", taps_relus=0, method=method)
    assert isinstance(net.graph.nodes[cut(net.graph, 0)], ReLU)
    lower, upper = embeddings(net, batch.box, members(net), at=cut(net.graph, 0), method=method, plan=PLAN)
    for p, member in enumerate(members(net)):
        weight, bias = (v.detach() for v in net.module(member)[-1].parameters())  # type: ignore[index]
        for image, label in enumerate(batch.labels.tolist()):
            rows = torch.stack([weight[label] - weight[j] for j in range(4) if j != label])
            shift = torch.stack([bias[label] - bias[j] for j in range(4) if j != label])
            low, high = lower[p, image].flatten(), upper[p, image].flatten()
            least = (torch.minimum(rows * low, rows * high)).sum(1) + shift
            assert torch.allclose(found[p, image], least, rtol=1e-10)


def test_an_attack_on_the_whole_image_lies_between_the_image_and_the_bounds() -> None:
    """All ReLUs behind the split: every class' own point of the image's box."""
    net = network()
    batch = minibatch(net, "taps")
    found = margins(2, attack=Attack(steps=10, restarts=2))
    natural = point_margins(net.logits(batch.images, members(net)), batch.labels)
    assert bool((found >= bounded("crown") - 1e-12).all())
    inner = torch.tensor([2, 3, 4, 5])  # the boxes of the first two are cut off: their middle is not the image
    assert bool((found[:, inner] <= natural[:, inner] + 1e-12).all())
    assert bool((found < natural - 0.01).any())


def test_the_attack_behind_the_split_finds_more_than_many_corners() -> None:
    """Nine times of ten more than the best of 300 random corners of a box of 27 embeddings; it is a local climb."""
    net, values = network(), members(network())
    batch = minibatch(net, "taps")
    found = margins(1, attack=Attack(steps=8, restarts=8))
    at = cut(net.graph, 1)
    lower, upper = embeddings(net, batch.box, values, at=at, method="ibp", plan=PLAN)
    generator = torch.Generator().manual_seed(0)
    least = torch.full_like(found, torch.inf)
    for _ in range(300):
        corner = torch.where(torch.rand(lower.shape, generator=generator) < 0.5, lower, upper)
        logits = logits_behind(net.graph, net.layers(values), at, corner)
        least = torch.minimum(least, point_margins(logits, batch.labels))
    assert float((found <= least).double().mean()) > 0.9
    assert float((margins(1, attack=Attack(1, 0.01)) <= least).double().mean()) < 0.1  # without a climb
    assert bool((found >= bounded("ibp")).all())
    assert bool((found > bounded("ibp") + 0.01).any())  # else there would be nothing to gain


def test_the_loss_is_a_product_of_powers() -> None:
    robust, inner = value("robust"), robust_cross_entropy(margins(1))
    assert bool((inner <= robust).all())
    assert torch.allclose(value("taps"), inner * robust, rtol=1e-10)
    assert torch.allclose(value("taps", taps_alpha=0.3), inner**0.6 * robust**1.4, rtol=1e-10)
    assert torch.allclose(value("taps", taps_alpha=0.0), robust**2, rtol=1e-10)
    assert torch.allclose(value("taps", taps_alpha=1.0), inner**2, rtol=1e-10)


def test_staps_goes_from_adversarial_to_taps() -> None:
    assert torch.allclose(value("staps", sabr_lambda=1.0), value("taps"), rtol=1e-10)
    for alpha in (0.3, 0.5):
        small = value("staps", sabr_lambda=1e-9, taps_alpha=alpha)
        assert torch.allclose(small, value("adversarial") ** 2, rtol=1e-5)
    point = value("staps", sabr_lambda=0.0)
    assert torch.allclose(point, value("adversarial") ** 2, rtol=1e-10)


def test_a_box_without_width_still_has_a_gradient() -> None:
    """At λ = 0 the square of the adversarial loss is what is differentiated, all coordinates moving as wholes."""
    net = network()
    center = members(net, 1)
    batch = minibatch(net, "staps", sabr_lambda=0.0)
    _, found = mean_gradient(net, batch, center)
    plain = minibatch(net, "adversarial")
    parts = [mean_gradient(net, plain.part(i, i + 1), center) for i in range(len(plain))]
    wanted = torch.stack([2 * loss * gradient for loss, gradient in parts]).mean(0)
    assert torch.allclose(found, wanted, rtol=1e-8, atol=1e-12)


def test_the_connector_by_hand() -> None:
    low = torch.tensor([[[0.0, 0.0, 0.0, 0.0, 2.0]]], requires_grad=True)
    high = torch.tensor([[[1.0, 1.0, 2.0, 1.0, 2.0]]], requires_grad=True)
    places = torch.tensor([[[0.0, 0.25, 0.5, 1.0, 0.7]]])
    point = _connected(low, high, places, 0.5)
    assert torch.equal(point.detach(), torch.tensor([[[0.0, 0.25, 1.0, 1.0, 2.0]]]))
    ends = torch.autograd.grad(point.sum(), (low, high))
    assert ends[0].flatten().tolist() == [1.0, 0.5, 0.0, 0.0, 0.5]
    assert ends[1].flatten().tolist() == [0.0, 0.0, 0.0, 1.0, 0.5]
    exact = torch.autograd.grad(_connected(low, high, places, 1.0).sum(), (low, high))
    assert exact[0].flatten().tolist() == [1.0, 0.75, 0.5, 0.0, 0.5]  # of l + t (u - l)
    assert exact[1].flatten().tolist() == [0.0, 0.25, 0.5, 1.0, 0.5]


class Skipping(nn.Module):
    """Two ReLUs in a branch that a sum closes, and one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.outer = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + torch.relu(self.inner(x))
        return self.last(torch.relu(self.outer(x)))  # type: ignore[no-any-return]


def test_the_split_is_a_place_that_everything_passes() -> None:
    torch.manual_seed(0)
    net = Network(Skipping(), (4,))
    first, _, outer = net.graph.relus()
    assert [cut(net.graph, relus) for relus in range(5)] == [outer, first, first, 0, 0]  # not within the branch
    x = torch.rand(3, 4)
    params = net.parameter_vector()[None]
    for at in (0, first, outer):
        values = x[None] if at == 0 else _value(net, x, at)
        assert torch.allclose(logits_behind(net.graph, net.layers(params), at, values), net.logits(x, params))
    batch = Minibatch.prepare(net, x, torch.arange(3), Stage(0.1, 0.0, "ibp", "taps", taps_relus=2))
    lower, upper = embeddings(net, batch.box, params, at=first, method="ibp", plan=PLAN)
    for signs in itertools.product((-0.1, 0.1), repeat=4):
        inside = _value(net, (x + torch.tensor(signs)).clamp(0, 1), first)
        assert bool(((inside >= lower - 1e-6) & (inside <= upper + 1e-6)).all())


def _value(net: Network, x: Tensor, at: int) -> Tensor:
    """The outputs of a ReLU of :class:`Skipping`, by its modules."""
    module = net.module()
    assert isinstance(module, Skipping)
    first = torch.relu(module.first(x))
    if at == net.graph.relus()[0]:
        return first[None].detach()
    middle = first + torch.relu(module.inner(first))
    return torch.relu(module.outer(middle))[None].detach()
