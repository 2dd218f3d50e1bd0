"""Importance sampling of images: unbiased whatever is summed, and worth it where gradients follow the scores."""

import pytest
import torch

from gls_es.fitness import chosen

LOSSES = torch.tensor([0.0, 0.01, 0.02, 0.05, 0.1, 0.3, 0.8, 1.5, 4.0, torch.inf, torch.nan, 2.0])


def draws(size: int, count: int, losses: torch.Tensor = LOSSES) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [chosen(losses, size, generator) for _ in range(count)]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_every_image_counts_as_much_as_in_the_plain_mean(size: int) -> None:
    count = 3000
    mass = torch.zeros(len(LOSSES), dtype=torch.float64)
    squares = torch.zeros_like(mass)
    for rows, weights in draws(size, count):
        once = torch.zeros_like(mass).index_add_(0, rows, weights / size)
        mass += once / count
        squares += once.square() / count
    error = ((squares - mass.square()) / count).sqrt()
    assert ((mass - 1 / len(LOSSES)).abs() < 4.5 * error + 1e-12).all()


def test_weights_are_bounded_and_places_random() -> None:
    found = draws(4, 400)
    assert max(float(weights.max()) for _, weights in found) <= 11.0
    first = torch.stack([rows[0] for rows, _ in found])
    assert len(first.unique()) > 6  # the exact images are the first ones: they must be any


def test_it_lowers_the_variance_where_values_follow_the_scores() -> None:
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(200, generator=generator) ** 6 * 5
    values = -torch.expm1(-losses.double()) * torch.randn(200, generator=generator, dtype=torch.float64)
    means = []
    for _ in range(1500):
        order = torch.randperm(200, generator=generator)
        rows, weights = chosen(losses[order], 20, generator)
        means.append((values[order[rows]] * weights).mean())
    found = torch.stack(means)
    plain = values.var(correction=0) / 20  # of 20 that are drawn one by one
    assert found.mean() == pytest.approx(float(values.mean()), abs=4 * float(found.std()) / 1500**0.5)
    assert found.var() < 0.5 * plain


def test_no_image_twice_while_no_score_is_a_minibatchs_share() -> None:
    losses = torch.linspace(0, 3, 64)
    for rows, _ in draws(16, 50, losses):
        assert len(rows.unique()) == 16
