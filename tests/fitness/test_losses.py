"""Losses by name: their ends, their order, populations against loops, and gradients against finite differences."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gls_es import bounds
from gls_es.bounds import Plan
from gls_es.errors import ConfigError
from gls_es.fitness import LOSSES, Attack, Minibatch, Stage, image_losses, loss_named, mean_gradient, member_losses
from gls_es.fitness.attack import adversarial_points
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.sabr import small_boxes
from gls_es.network import Network

from .nets import EPS, IMAGES, members, minibatch, network

ATTACKING = ["adversarial", "sabr", "mtl-ibp", "cc-ibp", "exp-ibp", "staps"]
# what differs from the defaults, so that no coefficient is 0 or 1; but the connector of TAPS is exact at 1
OPTIONS: dict[str, dict[str, Any]] = {
    "crown-ibp": {"crown_ibp_beta": 0.3},
    "crown-ibp-fused": {"crown_ibp_beta": 0.3},
    "mtl-ibp": {"mtl_ibp_alpha": 0.3},
    "cc-ibp": {"cc_ibp_alpha": 0.3},
    "exp-ibp": {"exp_ibp_alpha": 0.3},
    "taps": {"taps_alpha": 0.3, "taps_connector": 1.0},
    "staps": {"taps_alpha": 0.3, "taps_connector": 1.0},
}


def value(loss: str, *, method: str = "ibp", params: Tensor | None = None, **options: Any) -> Tensor:
    net = network()
    values = members(net) if params is None else params
    return image_losses(net, minibatch(net, loss, method=method, **options), values)


def at_the_points(points: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every member at its points, by modules."""
    net = network()
    rows = [
        cross_entropy(net.module(member)(own), labels, reduction="none")
        for member, own in zip(members(net), points, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_sabr_with_the_whole_box_is_robust(method: str) -> None:
    found = value("sabr", method=method, sabr_lambda=1.0)
    assert torch.allclose(found, value("robust", method=method), rtol=1e-12)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_sabr_without_a_box_is_adversarial(method: str) -> None:
    wanted = value("adversarial")
    assert torch.allclose(value("sabr", method=method, sabr_lambda=0.0), wanted, rtol=1e-12)
    assert torch.allclose(value("sabr", method=method, sabr_lambda=1e-9), wanted, rtol=1e-6)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown", "deepz"])
def test_sabr_is_the_robust_loss_of_each_members_small_boxes(method: str) -> None:
    net = network()
    batch = minibatch(net, "sabr", method=method, sabr_lambda=0.3)
    lower, upper = small_boxes(batch, adversarial_points(net, batch, members(net)))
    found = image_losses(net, batch, members(net))
    for row, member, low, high in zip(found, members(net), lower, upper, strict=True):
        margins = bounds.margins(net, low, high, batch.labels, method, member[None])
        assert torch.allclose(row, robust_cross_entropy(margins)[0], rtol=1e-10)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_small_boxes_stay_in_the_ball(factor: float) -> None:
    net = network()
    batch = minibatch(net, "sabr", sabr_lambda=0.3, attack=Attack(eps_factor=factor))
    points = adversarial_points(net, batch, members(net))
    lower, upper = small_boxes(batch, points)
    assert bool((lower >= (batch.images - EPS - 1e-15).clamp(min=0)).all())
    assert bool((upper <= (batch.images + EPS + 1e-15).clamp(max=1)).all())
    assert bool((lower <= upper).all())
    # away from the border every box has its full size
    inner = (batch.images > EPS) & (batch.images < 1 - EPS)
    assert torch.allclose((upper - lower)[inner.expand_as(lower)], torch.tensor(0.6 * EPS, dtype=torch.float64))
    if factor <= 0.5:  # a point deep in the ball is the middle of its box
        assert torch.allclose(((lower + upper) / 2)[inner.expand_as(lower)], points[inner.expand_as(points)])


def test_mtl_ibp_lies_between_its_ends() -> None:
    robust, adversarial = value("robust"), value("adversarial")
    assert torch.equal(value("mtl-ibp", mtl_ibp_alpha=1.0), robust)
    assert torch.equal(value("mtl-ibp", mtl_ibp_alpha=0.0), adversarial)
    assert torch.allclose(value("mtl-ibp", mtl_ibp_alpha=0.3), 0.3 * robust + 0.7 * adversarial, rtol=1e-12)


def test_the_expressive_losses_lie_between_the_same_ends() -> None:
    """At an end the other part is left out, so a margin of -inf or a loss of 0 there does not matter."""
    robust, adversarial = value("robust"), value("adversarial")
    arithmetic = value("mtl-ibp", mtl_ibp_alpha=0.3)
    for loss, key in (("cc-ibp", "cc_ibp_alpha"), ("exp-ibp", "exp_ibp_alpha")):
        assert torch.equal(value(loss, **{key: 1.0}), robust)
        assert torch.equal(value(loss, **{key: 0.0}), adversarial)
        found = value(loss, **{key: 0.3})
        assert bool((found < arithmetic).all())  # convex in the margins; geometric below arithmetic
        assert bool((found > adversarial).all() and (found < robust).all())
    assert torch.allclose(value("exp-ibp", exp_ibp_alpha=0.3), adversarial**0.7 * robust**0.3, rtol=1e-12)


def test_cc_ibp_is_the_loss_of_mixed_margins() -> None:
    """Margins of the modules at the attack's points, by a loop over classes."""
    net = network()
    batch = minibatch(net, "cc-ibp", cc_ibp_alpha=0.3)
    points = adversarial_points(net, batch, members(net))
    lower, upper = (batch.images - EPS).clamp(min=0), (batch.images + EPS).clamp(max=1)
    bounded = bounds.margins(net, lower, upper, batch.labels, "ibp", members(net))
    found = image_losses(net, batch, members(net))
    for p, member in enumerate(members(net)):
        logits = net.module(member)(points[p]).detach()
        for image, label in enumerate(batch.labels.tolist()):
            attacked = torch.stack([logits[image, label] - x for j, x in enumerate(logits[image]) if j != label])
            wanted = torch.log1p((-(0.7 * attacked + 0.3 * bounded[p, image])).exp().sum())
            assert float(found[p, image]) == pytest.approx(float(wanted), rel=1e-10)


def test_exp_ibp_is_finite_where_a_loss_is_zero() -> None:
    """Logits a thousand apart, in float32: the adversarial loss is exactly 0."""
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(1, 2)), (1,))
    batch = Minibatch.prepare(
        net, torch.full((1, 1), 0.5), torch.tensor([0]), Stage(0.1, 0.0, "ibp", "exp-ibp"), attack_seed=0
    )
    losses, gradient = mean_gradient(net, batch, torch.tensor([[4000.0, 0.0, 0.0, 0.0]]))
    assert bool(torch.isfinite(losses).all() and torch.isfinite(gradient).all())
    assert float(losses) < 1e-12


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_crown_ibp_mixes_margins(beta: float) -> None:
    net = network()
    batch = minibatch(net, "crown-ibp", crown_ibp_beta=beta)
    lower, upper = (batch.images - EPS).clamp(min=0), (batch.images + EPS).clamp(max=1)
    tight, loose = (bounds.margins(net, lower, upper, batch.labels, m, members(net)) for m in ("crown-ibp", "ibp"))
    wanted = robust_cross_entropy(beta * tight + (1 - beta) * loose)
    found = image_losses(net, batch, members(net))
    assert torch.allclose(found, wanted, rtol=1e-12)
    assert bool((tight - loose).abs().max() > 0.01)  # else any weight would do
    if beta in (0.0, 1.0):
        assert torch.equal(found, value("robust", method="crown-ibp" if beta else "ibp"))


def test_losses_are_ordered_as_their_sets_of_inputs() -> None:
    natural, adversarial, robust = (value(loss, method="crown") for loss in ("natural", "adversarial", "robust"))
    assert bool((natural <= adversarial).all())
    assert bool((adversarial <= robust).all())
    assert bool((adversarial > 1.01 * natural).any() and (robust > 1.01 * adversarial).any())
    images = minibatch(network(), "natural").images
    assert torch.allclose(natural, at_the_points(images.expand(5, *images.shape), torch.arange(IMAGES) % 4))


@pytest.mark.parametrize("loss", list(LOSSES))
def test_without_a_box_every_loss_is_natural(loss: str) -> None:
    assert torch.equal(value(loss, eps=0.0, seed=None), value("natural"))
    assert torch.equal(value(loss, natural_weight=1.0, seed=None), value("natural"))


@pytest.mark.parametrize("loss", list(LOSSES))
def test_the_natural_weight_mixes_the_natural_loss_in(loss: str) -> None:
    options = OPTIONS.get(loss, {})
    wanted = 0.75 * value(loss, **options) + 0.25 * value("natural")
    assert torch.allclose(value(loss, natural_weight=0.25, **options), wanted, rtol=1e-12)


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_a_population_is_a_loop_over_members(loss: str, method: str) -> None:
    net = network()
    batch = minibatch(net, loss, method=method, **OPTIONS.get(loss, {}))
    values = members(net, 7)
    whole = image_losses(net, batch, values)
    assert whole.shape == (7, IMAGES)
    looped = torch.cat([image_losses(net, batch, member[None]) for member in values])
    grouped = image_losses(net, batch, values, plan=Plan(1 << 30, members=3))
    assert torch.allclose(whole, looped, rtol=1e-10)
    assert torch.allclose(grouped, looped, rtol=1e-10)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_images_do_not_know_of_each_other(loss: str) -> None:
    net = network()
    batch = minibatch(net, loss, **OPTIONS.get(loss, {}))
    parts = [image_losses(net, batch.part(start, start + 2), members(net)) for start in range(0, IMAGES, 2)]
    assert torch.allclose(torch.cat(parts, 1), image_losses(net, batch, members(net)), rtol=1e-10)


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_gradients_agree_with_finite_differences(loss: str, budget: int) -> None:
    net = network()
    batch = minibatch(net, loss, natural_weight=0.1, regularizer=0.2, **OPTIONS.get(loss, {}))
    center = members(net, 2)
    losses, gradient = mean_gradient(net, batch, center, l1=0.01, budget=budget)
    assert torch.allclose(losses, member_losses(net, batch, center, l1=0.01), rtol=1e-10)
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(center.shape[1], generator=generator, dtype=torch.float64)
    step = 1e-6 * direction / direction.norm()
    ahead, behind = (member_losses(net, batch, center + sign * step, l1=0.01).mean() for sign in (1, -1))
    assert float(ahead - behind) == pytest.approx(float(2 * gradient @ step), rel=1e-4)


@pytest.mark.parametrize("loss", ATTACKING)
def test_gradients_do_not_flow_through_the_attack(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is that of the loss at the attack's points, held fixed."""
    net = network()
    batch = minibatch(net, loss, **OPTIONS.get(loss, {}))
    center = members(net, 1)
    points = adversarial_points(net, batch, center)
    assert not points.requires_grad
    _, gradient = mean_gradient(net, batch, center)
    for module in ("adversarial", "sabr", "cc_ibp", "taps"):
        monkeypatch.setattr(f"gls_es.fitness.{module}.adversarial_points", lambda *_: points)
    _, fixed = mean_gradient(net, batch, center)
    assert torch.allclose(gradient, fixed, rtol=1e-12)


def test_an_unknown_loss_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ConfigError, match="unknown loss 'saber': did you mean 'sabr'"):
        loss_named("saber")
    assert all(loss_named(name).name == name and loss_named(name).summary for name in LOSSES)
