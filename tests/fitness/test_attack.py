"""The training attack: inside the ball, never worse than its starts, exact where the answer is known."""

import dataclasses

import pytest
import torch
from torch import nn

from gls_es.errors import ConfigError
from gls_es.fitness import Attack, Minibatch, Stage
from gls_es.fitness.attack import adversarial_points
from gls_es.fitness.natural import cross_entropies
from gls_es.network import Network

from .nets import EPS, members, minibatch, network


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0, 100.0])
def test_points_lie_in_the_ball_and_in_the_unit_cube(factor: float) -> None:
    net = network()
    batch = minibatch(net, "adversarial", attack=Attack(eps_factor=factor))
    points = adversarial_points(net, batch, members(net))
    assert points.shape == (5, *batch.images.shape)
    assert bool((points >= 0).all() and (points <= 1).all())
    distances = (points - batch.images).abs()
    assert float(distances.max()) <= min(1.0, factor * EPS) + 1e-15
    assert float(distances.max()) > 0.9 * min(1.0, factor * EPS)


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_the_attack_never_ends_below_the_image_or_below_a_shorter_attack(steps: int) -> None:
    net = network()
    losses = []
    for attack in (Attack(steps=steps), Attack(steps=steps + 4), Attack(steps=steps + 4, restarts=3)):
        batch = minibatch(net, "adversarial", attack=attack)
        points = adversarial_points(net, batch, members(net))
        losses.append(cross_entropies(net, points, batch.labels, members(net)))
    natural = cross_entropies(net, batch.images, batch.labels, members(net))
    assert bool((losses[0] >= natural).all())
    assert bool((losses[1] >= losses[0]).all() and (losses[2] >= losses[1]).all())


@pytest.mark.parametrize("seed", range(4))
def test_on_a_linear_network_the_attack_finds_the_worst_corner(seed: int) -> None:
    """With two classes the worst point of the box is known: every pixel at the end that the weights point to."""
    torch.manual_seed(seed)
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).double(), (1, 3, 3))
    values = torch.randn(3, net.num_parameters, dtype=torch.float64)
    images = torch.rand(4, 1, 3, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    stage = Stage(0.15, 0.0, "ibp", "adversarial", Attack(steps=9, step_size=0.25))
    points = adversarial_points(net, Minibatch.prepare(net, images, labels, stage, attack_seed=seed), values)
    lower, upper = (images - 0.15).clamp(min=0), (images + 0.15).clamp(max=1)
    for member, found in zip(values, points, strict=True):
        weight = member[:18].reshape(2, 1, 3, 3)
        toward = (weight[1] - weight[0]) * (1 - 2 * labels)[:, None, None, None]
        assert torch.equal(found, torch.where(toward > 0, upper, lower))


def test_it_climbs_where_cross_entropy_is_zero_to_machine_precision() -> None:
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).double(), (1, 1, 2))
    steep = torch.tensor([[9000.0, 9000.0, -9000.0, -9000.0, 0.0, 0.0]], dtype=torch.float64)
    images = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
    labels = torch.tensor([0])
    assert float(cross_entropies(net, images, labels, steep)) == 0.0
    stage = Stage(0.4, 0.0, "ibp", "adversarial")
    points = adversarial_points(net, Minibatch.prepare(net, images, labels, stage, attack_seed=0), steep)
    assert torch.allclose(points, torch.full_like(points, 0.1))


def test_the_seed_decides_and_nothing_else() -> None:
    net = network()
    found = [adversarial_points(net, minibatch(net, "adversarial", seed=seed), members(net)) for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    batch = minibatch(net, "adversarial", seed=1)
    with torch.no_grad():
        assert torch.equal(adversarial_points(net, batch, members(net)), found[0])
    assert batch.starts is not None
    assert batch.starts.shape == (2, *batch.images.shape)
    assert float(batch.starts.std()) == pytest.approx(12**-0.5, rel=0.1)


def test_members_have_their_own_points() -> None:
    net = network()
    batch = minibatch(net, "adversarial")
    points = adversarial_points(net, batch, torch.cat([members(net, 2), -members(net, 2)]))
    assert not torch.equal(points[0], points[2])


def test_a_member_with_nan_spoils_nobody() -> None:
    net = network()
    batch = minibatch(net, "adversarial")
    values = members(net, 3)
    wanted = adversarial_points(net, batch, values)
    values[1, 4] = torch.nan
    points = adversarial_points(net, batch, values)
    assert torch.allclose(points[[0, 2]], wanted[[0, 2]])
    assert torch.equal(points[1], batch.images)


def test_a_minibatch_without_starts_is_refused() -> None:
    net = network()
    batch = dataclasses.replace(minibatch(net, "sabr"), starts=None)
    with pytest.raises(ConfigError, match="loss 'sabr' attacks: prepare its minibatch with an attack_seed"):
        adversarial_points(net, batch, members(net))
