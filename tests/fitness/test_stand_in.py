"""A cheap relaxation in a dear one's place: the mean over all choices of the exact images is the dear loss."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from gls_es.fitness import Minibatch, image_losses, mean_gradient, member_losses

from .nets import IMAGES, members, minibatch, network


def rearranged(batch: Minibatch, order: list[int]) -> Minibatch:
    rows = torch.tensor(order)
    return Minibatch.prepare(network(), batch.images[rows], batch.labels[rows], batch.stage)


@pytest.mark.parametrize("exact", [1, 2, 5])
@pytest.mark.parametrize("natural_weight", [0.0, 0.3])
def test_over_all_choices_of_the_exact_images_the_mean_is_the_methods(exact: int, natural_weight: float) -> None:
    net, plain = network(), minibatch(network(), "robust", method="crown", natural_weight=natural_weight)
    wanted = member_losses(net, plain, members(net))
    stage = replace(plain.stage, stand_in="ibp", exact_images=exact)
    found = []
    for first in combinations(range(IMAGES), exact):
        order = [*first, *(i for i in range(IMAGES) if i not in first)]
        found.append(member_losses(net, rearranged(replace(plain, stage=stage), order), members(net)))
    assert torch.allclose(torch.stack(found).mean(0), wanted, rtol=1e-10)
    assert torch.stack(found).std(0).min() > 1e-3  # or the images would not matter


def test_with_all_images_exact_the_stand_in_plays_no_part() -> None:
    net = network()
    batch = minibatch(net, "robust", method="crown", stand_in="ibp", exact_images=IMAGES + 1)
    assert torch.equal(
        image_losses(net, batch, members(net)),
        image_losses(net, minibatch(net, "robust", method="crown"), members(net)),
    )


@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_weights_and_exact_images_reach_the_gradient_in_any_pieces(budget: int) -> None:
    net = network()
    weights = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0, 1.5], dtype=torch.float64)
    batch = replace(minibatch(net, "robust", method="crown", stand_in="crown-ibp", exact_images=2), weights=weights)
    center = members(net, 2)
    losses, gradient = mean_gradient(net, batch, center, budget=budget)
    assert torch.allclose(losses, (image_losses(net, batch, center) * weights).mean(1), rtol=1e-10)
    direction = torch.randn(center.shape[1], generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    step = 1e-6 * direction / direction.norm()
    ahead, behind = (member_losses(net, batch, center + sign * step).mean() for sign in (1, -1))
    assert float(ahead - behind) == pytest.approx(float(2 * gradient @ step), rel=1e-4)
