"""The attack finds what is there, and nothing that is not."""

import numpy as np
import pytest
import torch
from certification_nets import (
    exact_linear_margin,
    grid_of_ball,
    in_exact_ball,
    linear_net,
    numpy_least_margin,
    random_images,
    random_linear,
    relu_net,
)
from torch import nn

from gls_es.certification.attack import LOSSES, AttackOptions, find_counterexamples
from gls_es.errors import ConfigError
from gls_es.network import Network

EPS = [8 / 255, 0.1]


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("clip", [True, False])
def test_linear_networks_are_decided_exactly(eps: float, clip: bool) -> None:
    net = random_linear(0, pixels=16, classes=5)
    images = random_images(1, 60, 1, 4, 4)
    labels = net(images).argmax(dim=1)
    result = find_counterexamples(Network(net, (1, 4, 4)), images, labels, eps, clip=clip)
    exact = [float(exact_linear_margin(net, x, int(y), eps, clip=clip)) for x, y in zip(images, labels, strict=True)]
    assert min(abs(m) for m in exact) > 1e-5  # no tie, so float32 decides like the rationals
    assert [c is not None for c in result.counterexamples] == [m < 0 for m in exact]
    assert {m < 0 for m in exact} == {True, False}
    for reached, least in zip(result.margins.tolist(), exact, strict=True):
        assert reached >= least - 1e-5
        assert least < 0 or reached <= least + 1e-5


def test_targets_are_ranked_by_their_minimum_over_the_box() -> None:
    """The rival with the least clean margin is flat; only the far one with a steep slope can be reached."""
    net = linear_net([[0.0], [0.0], [0.0], [0.0], [30.0]], [4.0, 3.9, 3.8, 3.7, -12.0])
    images, labels = torch.tensor([[0.5]]), torch.tensor([0])
    options = AttackOptions(restarts=1, losses=("targeted",), targets=1)
    result = find_counterexamples(Network(net, (1,)), images, labels, 0.1, options=options)
    assert result.counterexamples[0] is not None


@pytest.mark.parametrize(("losses", "missed"), [*(((loss,), 2) for loss in LOSSES), (LOSSES, 0)])
def test_grid_counterexamples_of_small_relu_networks_are_found(losses: tuple[str, ...], missed: int) -> None:
    """A single loss may end in a local minimum now and then; together they miss nothing here."""
    found = wanted = 0
    for seed in range(30):
        net = relu_net(seed, (2, 8, 8, 3))
        images = random_images(seed, 6, 2)
        labels = net(images).argmax(dim=1)
        options = AttackOptions(losses=losses, restarts=6, targets=2)
        result = find_counterexamples(Network(net, (2,)), images, labels, 0.1, options=options)
        for x, y, example, reached in zip(
            images, labels.tolist(), result.counterexamples, result.margins.tolist(), strict=True
        ):
            least = numpy_least_margin(net, grid_of_ball(x, 0.1, steps=81), y).min()
            wanted += least < -1e-3
            found += least < -1e-3 and example is not None
            if example is not None:
                assert numpy_least_margin(net, example.double().numpy()[None], y)[0] <= 0
                assert in_exact_ball(example, x, 0.1)
                assert reached <= 0
            elif least > 0:
                assert reached >= least - 0.05  # the grid's spacing times the slope
    assert wanted >= 12
    assert wanted - found <= missed


@pytest.mark.parametrize("eps", [*EPS, 1 / 255, 0.3])
def test_counterexamples_never_leave_the_exact_ball(eps: float) -> None:
    """Pixels k/255 and corners reached by sign steps: where x ± eps rounded to float32 leaves the ball."""
    net = random_linear(3, pixels=64, classes=3)
    pixels = torch.randint(256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(5))
    images = (pixels.double() / 255).float()
    labels = (net(images).argmax(dim=1) + 1) % 3  # misclassified from the start, or nearly anywhere
    correct = net(images).argmax(dim=1)
    for y in (labels, correct):
        options = AttackOptions(steps=8, restarts=2)
        result = find_counterexamples(Network(net, (1, 8, 8)), images, y, eps, options=options)
        examples = [(x, c) for x, c in zip(images, result.counterexamples, strict=True) if c is not None]
        assert examples
        for x, example in examples:
            assert example.dtype == torch.float32
            assert example.shape == x.shape
            assert in_exact_ball(example, x, eps)


def test_both_evaluations_must_fail() -> None:
    """(x + 2^30) - 2^30 in float32 loses x: it fails there, is right in float64, and so is no counterexample."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[0].weight.fill_(32.0)
        net[0].bias.fill_(2.0**30)
        net[2].weight.copy_(torch.tensor([[1.0], [0.0]]))
        net[2].bias.copy_(torch.tensor([-(2.0**30), 0.0]))
    network = Network(net, (1,))
    images, labels = torch.tensor([[0.5]]), torch.tensor([0])
    assert net(images)[0, 0] <= net(images)[0, 1]
    result = find_counterexamples(network, images, labels, 0.1)
    assert result.counterexamples == (None,)
    assert float(result.margins[0]) <= 0  # seen to fail in float32 all the same
    assert (
        find_counterexamples(network, images, torch.tensor([1]), 0.1, dtype=torch.float64).counterexamples[0]
        is not None
    )


def test_tie_counts_as_misclassified() -> None:
    net = linear_net([[1.0], [0.0]], [0.0, 0.25])
    result = find_counterexamples(Network(net, (1,)), torch.tensor([[0.5]]), torch.tensor([0]), 0.25)
    assert result.counterexamples[0] is not None
    assert float(result.margins[0]) == 0.0
    assert result.counterexamples[0].tolist() == [0.25]


def test_zero_radius_and_empty_batch() -> None:
    net = Network(random_linear(0, pixels=4, classes=3), (4,))
    images = random_images(0, 5, 4)
    labels = net.logits(images)[0].argmax(dim=1)
    result = find_counterexamples(net, images, labels, 0.0)
    assert result.counterexamples == (None,) * 5
    top = net.logits(images)[0].topk(2, dim=1).values
    torch.testing.assert_close(result.margins.float(), top[:, 0] - top[:, 1], rtol=1e-4, atol=1e-6)
    assert find_counterexamples(net, images[:0], labels[:0], 0.1).counterexamples == ()


def test_deterministic_and_leaves_the_global_generator_alone() -> None:
    net = Network(relu_net(7, (16, 12, 4)), (16,))
    images = random_images(2, 20, 16)
    labels = net.logits(images)[0].argmax(dim=1)
    before = torch.get_rng_state()
    runs = [find_counterexamples(net, images, labels, 0.05, seed=3) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(runs[0].margins, runs[1].margins)
    for a, b in zip(runs[0].counterexamples, runs[1].counterexamples, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


def test_random_starts_depend_on_the_image_not_on_its_place_in_the_batch() -> None:
    """Steps too small to matter leave the best of the random starts."""
    net = Network(relu_net(7, (6, 9, 4)), (6,))
    images = random_images(2, 8, 6)
    labels = net.logits(images)[0].argmax(dim=1)
    options = AttackOptions(steps=1, step_size=1e-30, restarts=9, losses=("margin",))
    forward = find_counterexamples(net, images, labels, 0.02, options=options, indices=list(range(8)))
    order = torch.tensor([5, 3, 0, 7, 1, 2, 6, 4])
    shuffled = find_counterexamples(net, images[order], labels[order], 0.02, options=options, indices=order.tolist())
    torch.testing.assert_close(forward.margins[order], shuffled.margins, rtol=0, atol=1e-6)
    elsewhere = find_counterexamples(net, images, labels, 0.02, options=options, seed=1)
    assert (elsewhere.margins - forward.margins).abs().max() > 1e-4


def test_non_finite_weights_do_not_crash_and_confirm_nothing() -> None:
    net = linear_net(torch.full((3, 4), float("nan")), torch.zeros(3))
    network = Network(net, (4,))
    result = find_counterexamples(network, random_images(0, 3, 4), torch.tensor([0, 1, 2]), 0.1)
    assert result.counterexamples == (None,) * 3


def test_step_schedule() -> None:
    options = AttackOptions(steps=10, step_size=0.5, decay=0.1, milestones=(0.5, 0.8))
    steps = [options.step_at(step) for step in range(10)]
    assert np.allclose(steps, [0.5] * 5 + [0.05] * 3 + [0.005] * 2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": 0},
        {"steps": 2.5},
        {"restarts": True},
        {"targets": -1},
        {"step_size": 0.0},
        {"step_size": float("nan")},
        {"step_size": "big"},
        {"decay": 0.0},
        {"decay": 1.5},
        {"milestones": (0.9, 0.5)},
        {"milestones": (1.0,)},
        {"losses": ()},
        {"losses": "margin"},
        {"losses": ("hinge",)},
    ],
    ids=str,
)
def test_bad_options_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="AttackOptions"):
        AttackOptions(**arguments)


def test_every_image_has_its_own_random_starts() -> None:
    net = Network(relu_net(7, (6, 9, 4)), (6,))
    images = random_images(2, 1, 6).repeat(4, 1)
    labels = net.logits(images)[0].argmax(dim=1)
    options = AttackOptions(steps=1, step_size=1e-30, restarts=2, losses=("margin",))
    margins = find_counterexamples(net, images, labels, 0.02, options=options).margins
    assert len(set(margins.tolist())) > 1


def test_a_pixel_without_a_gradient_does_not_stop_the_others() -> None:
    """At x0 = 0 the gradient is infinity minus infinity; the margin x1 - 0.45 is within reach all the same."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1e30, 0.0], [1e30, 0.0], [0.0, 1.0]]))
        net[0].bias.copy_(torch.tensor([1e-30, 1e-30, 0.0]))
        net[2].weight.copy_(torch.tensor([[1e30, -1e30, 1.0], [0.0, 0.0, 0.0]]))
        net[2].bias.copy_(torch.tensor([-0.45, 0.0]))
    images = torch.tensor([[0.0, 0.5]])
    assert net(images)[0, 0].item() == pytest.approx(0.05)
    options = AttackOptions(restarts=1, losses=("margin",))
    result = find_counterexamples(Network(net, (2,)), images, torch.tensor([0]), 0.1, options=options)
    assert result.counterexamples[0] is not None
    assert result.counterexamples[0].tolist()[1] < 0.5
