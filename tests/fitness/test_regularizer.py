"""The ramp's regulariser against closed forms of tiny networks, and against a loop."""

import pytest
import torch
from torch import Tensor, nn

from gls_es.bounds import Plan
from gls_es.fitness import Minibatch, Stage, image_losses, mean_gradient, member_losses
from gls_es.fitness.regularizer import balance, regularization, tightness
from gls_es.network import Network

from .nets import members, minibatch, network


def layer(active: list[float], inactive: list[float], unstable: list[float]) -> tuple[Tensor, Tensor]:
    """Bounds (1, 1, n) with the given centres: radius 0.5, or 10 for unstable neurons."""
    centre = torch.tensor([active + inactive + unstable], dtype=torch.float64)
    radius = torch.tensor([[0.5] * len(active + inactive) + [10.0] * len(unstable)], dtype=torch.float64)
    return (centre - radius)[None], (centre + radius)[None]


@pytest.mark.parametrize(
    ("radius", "wanted"),
    [(0.05, 0.0), (0.1, 0.0), (0.2, 0.0), (0.4, 0.5), (4.0, 0.95)],  # 0.1 / radius against 0.5
)
def test_tightness(radius: float, wanted: float) -> None:
    bounds = torch.full((2, 3, 4), 1.0, dtype=torch.float64)
    found = tightness(bounds - radius, bounds + radius, torch.tensor(0.1, dtype=torch.float64))
    assert found.tolist() == pytest.approx([wanted] * 2)


def test_intervals_of_width_zero_are_tight() -> None:
    point = torch.zeros(1, 1, 3, requires_grad=True)
    found = tightness(point - 0.0, point + 0.0, torch.tensor(0.1))
    (gradient,) = torch.autograd.grad(found.sum(), point)
    assert found.tolist() == [0.0]
    assert bool(torch.isfinite(gradient).all())


def test_balance_counts_centres_and_their_spread() -> None:
    # the mean of the centres is 0; sums 4 and 4, squares 10 and 10
    assert float(balance(*layer([1.0, 3.0], [-1.0, -3.0], []))) == 0.0
    # sums 1 and 4: q = 1/4
    centres = torch.tensor([1.0, -1.0, -1.0, -2.0], dtype=torch.float64)
    squares = (centres - centres.mean()) ** 2
    spread = min(float(squares[0] / squares[1:].sum()), float(squares[1:].sum() / squares[0]))
    wanted = (0.5 - 0.25) / 0.5 + max(0.0, 0.5 - spread) / 0.5
    assert float(balance(*layer([1.0], [-1.0, -1.0, -2.0], []))) == pytest.approx(wanted)
    # the other way round it is the same
    assert float(balance(*layer([1.0, 1.0, 2.0], [-1.0], []))) == pytest.approx(wanted)
    # an unstable neuron takes part in the mean only: centres 2, -1 and 5 of mean 2, squares 0 and 9
    assert float(balance(*layer([2.0], [-1.0], [5.0]))) == pytest.approx(0.0 + 1.0)


@pytest.mark.parametrize(
    ("active", "inactive", "wanted"),
    [([1.0, 2.0], [], 0.0), ([], [], 0.0), ([], [-1.0, -2.0], 2.0)],
)
def test_a_layer_whose_ratio_is_not_finite_has_no_balance(
    active: list[float], inactive: list[float], wanted: float
) -> None:
    lower, upper = (bound.requires_grad_() for bound in layer(active, inactive, [1.0]))
    found = balance(lower, upper)
    gradients = torch.autograd.grad(found.sum(), [lower, upper])
    assert found.tolist() == [wanted]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_a_tiny_network_in_closed_form() -> None:
    """z = (4 x, -4 x) of one pixel: intervals 4 x ± 4 eps, so 1/4 of the entry's tightness; perfectly balanced."""
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double(), (1, 1, 1))
    weights = torch.tensor([[4.0, -4.0, 0, 0, 1, 0, 0, 1, 0, 0], [1.0, -1.0, 0, 0, 1, 0, 0, 1, 0, 0]]).double()
    images = torch.full((3, 1, 1, 1), 0.5, dtype=torch.float64)
    labels = torch.zeros(3, dtype=torch.int64)
    batch = Minibatch.prepare(net, images, labels, Stage(0.1, 0.0, "ibp", regularizer=0.3))
    found = regularization(net, batch, weights, plan=Plan.default("cpu"))
    assert found.tolist() == pytest.approx([(0.5 - 0.25) / 0.5, 0.0])
    plain = image_losses(net, batch, weights).mean(1)
    wanted = (plain + 0.3 * found + 0.01 * weights.abs().sum(1)).tolist()
    assert member_losses(net, batch, weights, l1=0.01).tolist() == pytest.approx(wanted)


def test_a_population_is_a_loop_over_members() -> None:
    net = network()
    batch = minibatch(net, "robust", eps=0.3)
    values = members(net, 5)
    whole = regularization(net, batch, values, plan=Plan(1 << 30, members=2))
    looped = [float(regularization(net, batch, member[None], plan=Plan.default("cpu"))) for member in values]
    assert whole.tolist() == pytest.approx(looped)
    assert len(set(looped)) == 5


def test_a_network_without_relus_has_none() -> None:
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).double(), (1, 6, 6))
    batch = minibatch(net, "robust", regularizer=0.5)
    assert regularization(net, batch, members(net, 2), plan=Plan.default("cpu")).tolist() == [0.0, 0.0]
    found, wanted = (mean_gradient(net, b, members(net, 2)) for b in (batch, minibatch(net, "robust")))
    assert torch.equal(found[1], wanted[1])
