"""Lines, smoothing and directions against closed forms and against the fitness itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gls_es.bounds import margins
from gls_es.fitness import Minibatch, Stage
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.landscape import Line, gradient_direction, random_direction
from gls_es.network import Network


def small_net() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))


def line_of(net: Network, method: str, direction: Tensor, *, eps: float = 0.1) -> Line:
    torch.manual_seed(1)
    batch = Minibatch.prepare(
        net, torch.rand(5, 1, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1]), Stage(eps, 0.0, method)
    )
    return Line(net, batch, net.parameter_vector().double(), direction)


class Quadratic(Line):
    """A line through a known loss, |v|² / 2, in place of the network's."""

    def _mean_losses(self, values: Tensor) -> Tensor:
        return values.square().sum(1) / 2


def test_losses_are_those_of_the_bounds_at_every_point() -> None:
    net = small_net()
    direction = random_direction(net, net.parameter_vector().double(), seed=3)
    line = line_of(net, "crown", direction)
    steps = torch.tensor([-0.3, 0.0, 0.2], dtype=torch.float64)
    images = line.batch.images
    for step, loss in zip(steps, line.losses(steps), strict=True):
        found = margins(
            net, (images - 0.1).clamp(0, 1), (images + 0.1).clamp(0, 1), line.batch.labels, "crown",
            (line.center + step * direction)[None],
        )  # fmt: skip
        assert float(loss) == pytest.approx(float(robust_cross_entropy(found).mean()), rel=1e-12)


def test_smoothing_has_the_closed_form_of_a_quadratic() -> None:
    # E |v + ε|² / 2 = |v|² / 2 + L σ² / 2; with n antithetic pairs the linear term cancels exactly, and the mean of
    # n / 2 values of |ε|² / 2 has the standard deviation σ² sqrt(L / 2) / sqrt(n / 2).
    net = small_net()
    count, sigma, samples = net.num_parameters, 0.3, 4000
    direction = random_direction(net, net.parameter_vector().double(), seed=3)
    base = line_of(net, "ibp", direction)
    line = Quadratic(net, base.batch, base.center, direction)
    steps = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
    shift = line.smoothed(steps, sigma, samples=samples, seed=0) - line.losses(steps)
    error = sigma**2 * (count / 2) ** 0.5 / (samples / 2) ** 0.5
    assert torch.allclose(shift, shift[0].expand(3), atol=1e-9)  # the same noise at every point
    assert abs(float(shift[0]) - count * sigma**2 / 2) < 4 * error


def test_smoothing_of_nothing_is_the_loss() -> None:
    net = small_net()
    line = line_of(net, "crown", random_direction(net, net.parameter_vector().double(), seed=3))
    steps = torch.linspace(-0.1, 0.1, 5, dtype=torch.float64)
    assert torch.allclose(line.smoothed(steps, 1e-9, samples=4, seed=0), line.losses(steps), atol=1e-6)


def test_a_random_direction_has_every_tensors_norm_and_follows_the_seed() -> None:
    net = small_net()
    center = net.parameter_vector().double()
    direction = random_direction(net, center, seed=5)
    for place in net.named_slices().values():
        assert float(direction[place].norm()) == pytest.approx(float(center[place].norm()), rel=1e-12)
    assert torch.equal(direction, random_direction(net, center, seed=5))
    assert not torch.equal(direction, random_direction(net, center, seed=6))


def test_a_gradient_direction_is_scaled_to_the_weights() -> None:
    center, gradient = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1e-6])
    assert torch.allclose(gradient_direction(center, gradient), torch.tensor([0.0, 5.0]))
    for useless in (torch.zeros(2), torch.tensor([torch.nan, 1.0])):
        assert torch.equal(gradient_direction(center, useless), torch.zeros(2))
