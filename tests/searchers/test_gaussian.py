"""The search distributions: their law, who may draw what, and their estimates against EvoTorch's own.

Statistical bounds are on |z| of means with the standard error of their own sample, 4.5 unless stated: fewer than 1 in
100,000 for one quantity. All seeds are fixed.
"""

import math
from itertools import pairwise

import pytest
import torch
from evotorch.distributions import SymmetricSeparableGaussian
from evotorch.optimizers import ClipUp, get_optimizer_class
from torch import Tensor

from gls_es.searchers import pgpe
from gls_es.searchers.gaussian import SeededGaussian
from gls_es.searchers.pgpe import LeanSymmetricGaussian
from gls_es.searchers.rgs import AntitheticGradientGaussian, SmoothedGradientGaussian

KINDS: list[type[SeededGaussian]] = [SmoothedGradientGaussian, AntitheticGradientGaussian, LeanSymmetricGaussian]
RANKINGS = ["raw", "normalized", "centered"]


def vector(length: int, seed: int = 0) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(seed))


def made(kind: type[SeededGaussian], length: int, **parameters: object) -> SeededGaussian:
    return kind({"mu": vector(length), "sigma": 0.1 + vector(length, 1).abs(), **parameters})


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_is_standard_normal_and_independent(kind: type[SeededGaussian]) -> None:
    members, length = 600, 400
    distribution = made(kind, length)
    samples = distribution.sample(members, generator=torch.Generator().manual_seed(3))
    noise = ((samples - distribution.mu) / distribution.sigma)[:: kind.unit]
    moments = {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96)}  # order: its expectation, and the variance of one draw
    for order, (wanted, variance) in moments.items():
        z = (float(noise.pow(order).mean()) - wanted) / math.sqrt(variance / noise.numel())
        assert abs(z) < 4.5, order
    for products in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1], noise[:, :200] * noise[:, 200:]):
        assert abs(float(products.mean())) * math.sqrt(products.numel()) < 4.5
    per_weight = noise.square().mean(0).sub(1).abs().max()  # each weight has its own σ
    assert float(per_weight) < 5.5 * math.sqrt(2 / len(noise))


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_is_the_same_however_it_is_shared_out(kind: type[SeededGaussian]) -> None:
    distribution = made(kind, 37)
    whole = torch.empty(12, 37)
    distribution.fill(whole, seed=5, first=0)
    for cuts in ([0, 4, 12], [0, 2, 6, 8, 12]):
        parts = []
        for start, stop in pairwise(cuts):
            part = torch.empty(stop - start, 37)
            distribution.fill(part, seed=5, first=start // kind.unit)
            parts.append(part)
        assert torch.equal(torch.cat(parts), whole)
    other = torch.empty(12, 37)
    distribution.fill(other, seed=6, first=0)
    assert not bool((other == whole).any())
    assert len(whole.round(decimals=5).unique(dim=0)) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_alone_decides(kind: type[SeededGaussian]) -> None:
    distribution = made(kind, 9)
    first, second, third = (distribution.sample(6, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(distribution.sample(6, generator=generator), first)
    assert not torch.equal(distribution.sample(6, generator=generator), first)  # it moves on


@pytest.mark.parametrize("kind", [AntitheticGradientGaussian, LeanSymmetricGaussian])
def test_pairs_lie_on_both_sides_of_the_center(kind: type[SeededGaussian]) -> None:
    distribution = made(kind, 50)
    noise = distribution.sample(8) - distribution.mu
    assert torch.allclose(noise[0::2], -noise[1::2], atol=1e-6)
    assert float(noise[0::2].abs().min()) > 0


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("columns", [1 << 14, 5])
def test_estimates_are_evotorchs_own_divided_by_the_variance(
    ranking: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgpe, "_COLUMNS", columns)
    length, members = 203, 24
    lean = made(LeanSymmetricGaussian, length)
    divide = {"divide_mu_grad_by": "num_directions", "divide_sigma_grad_by": "num_directions"}
    stock = SymmetricSeparableGaussian({"mu": lean.mu, "sigma": lean.sigma, **divide})
    samples = lean.sample(members)
    losses = 2.0 + vector(members, 7).exp()
    options = {"objective_sense": "min", "ranking_method": ranking}
    found = lean.compute_gradients(samples, losses, **options)
    wanted = stock.compute_gradients(samples, losses, **options)
    for name, factor in (("mu", lean.sigma**2), ("sigma", 1.0)):
        error = (found[name] * factor - wanted[name]).abs().max() / wanted[name].abs().max()
        assert float(error) < 1e-6, name
    upwards = lean.compute_gradients(samples, losses, objective_sense="max", ranking_method=ranking)
    assert torch.allclose(upwards["mu"], -found["mu"], rtol=1e-3, atol=1e-4)


def test_sums_of_shares_add_up() -> None:
    lean = made(LeanSymmetricGaussian, 30)
    samples, utilities = lean.sample(12), vector(12, 3)
    whole = lean.sums(samples, utilities)
    parts = [lean.sums(samples[a:b], utilities[a:b]) for a, b in ((0, 2), (2, 8), (8, 12))]
    for name, total in whole.items():
        assert torch.allclose(total, sum(part[name] for part in parts), rtol=1e-5, atol=1e-5)


def test_where_there_is_no_noise_there_is_no_gradient() -> None:
    sigma = torch.tensor([0.0, 0.1, 1e-30, 1e-42])
    lean = LeanSymmetricGaussian({"mu": torch.tensor([0.5, 0.5, 0.5, 0.5]), "sigma": sigma})
    found = lean.compute_gradients(lean.sample(8), vector(8), objective_sense="min")
    assert all(bool(torch.isfinite(gradient).all()) for gradient in found.values())
    assert found["mu"][[0, 2, 3]].tolist() == [0, 0, 0]  # too little to change a weight of 0.5
    assert float(found["mu"][1].abs()) > 0
    assert float(found["sigma"][0]) == 0


@pytest.mark.parametrize("ranking", RANKINGS)
def test_equal_losses_have_no_gradient(ranking: str) -> None:
    lean = made(LeanSymmetricGaussian, 5)
    found = lean.compute_gradients(
        lean.sample(64), torch.full((64,), 0.1), objective_sense="min", ranking_method=ranking
    )
    assert not any(bool(gradient.any()) for gradient in found.values())


@pytest.mark.parametrize("name", ["adam", "sgd", "clipup", None])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_moves_nothing(name: str | None, bad: float) -> None:
    distribution = made(LeanSymmetricGaussian, 3)
    optimizer = optimizer_of(name, 3)
    gradient = torch.tensor([1.0, bad, 1.0])
    moved = distribution.update_parameters(
        {"mu": gradient, "sigma": gradient}, learning_rates={"sigma": 0.1}, optimizers={"mu": optimizer}
    )
    assert torch.equal(moved.mu, distribution.mu)
    assert torch.equal(moved.sigma, distribution.sigma)


@pytest.mark.parametrize("tiny", [0.0, 1e-38])
def test_clipup_takes_gradients_whose_norm_is_zero(tiny: float) -> None:
    distribution = made(SmoothedGradientGaussian, 3)
    moved = distribution.update_parameters({"mu": torch.full((3,), tiny)}, optimizers={"mu": optimizer_of("clipup", 3)})
    assert torch.equal(moved.mu, distribution.mu)


def optimizer_of(name: str | None, length: int, rate: float = 0.01) -> object:
    if name is None:
        return None
    return get_optimizer_class(name)(stepsize=rate, dtype=torch.float32, solution_length=length, device="cpu")


@pytest.mark.parametrize(("name", "torchs"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_steps_are_torchs_own_bit_for_bit(name: str, torchs: type[torch.optim.Optimizer]) -> None:
    length = 1001  # an odd tail of the vectorised kernels
    distribution, optimizer = made(SmoothedGradientGaussian, length), optimizer_of(name, length)
    weights = distribution.mu.clone().requires_grad_()
    reference = torchs([weights], lr=0.01)  # type: ignore[call-arg]
    for step in range(20):
        gradient = vector(length, 10 + step)
        for stepped in (reference, optimizer.contained_optimizer):
            stepped.param_groups[0]["lr"] = 0.01 / (1 + step)
        distribution = distribution.update_parameters({"mu": -gradient}, optimizers={"mu": optimizer})
        weights.grad = gradient
        reference.step()
        assert torch.equal(distribution.mu, weights.detach()), step
    assert float((weights.detach() - vector(length)).abs().max()) > 0.01


@pytest.mark.parametrize("norm", [0.5, 5.0, 1e30])
def test_long_gradients_are_cut_to_the_limit_and_short_ones_are_not(norm: float) -> None:
    distribution = made(LeanSymmetricGaussian, 100, gradient_clip=1.0)
    direction = vector(100, 4)
    gradient = norm * direction / direction.norm()
    step = distribution.update_parameters({"mu": gradient}).mu - distribution.mu
    assert float(step.norm()) == pytest.approx(min(norm, 1.0), rel=1e-5)
    assert float(torch.cosine_similarity(step.double(), gradient.double(), dim=0)) == pytest.approx(1.0, rel=1e-6)
    free = made(LeanSymmetricGaussian, 100)
    assert torch.equal(free.update_parameters({"mu": gradient}).mu, free.mu + gradient)


def test_clipup_is_told_of_the_direction_only() -> None:
    optimizer = optimizer_of("clipup", 100)
    assert isinstance(optimizer, ClipUp)
    distribution = made(SmoothedGradientGaussian, 100)
    moved = distribution.update_parameters({"mu": 1e6 * vector(100, 4)}, optimizers={"mu": optimizer})
    assert float((moved.mu - distribution.mu).norm()) == pytest.approx(0.01, rel=1e-4)


def test_what_an_actor_is_sent_draws_and_estimates_the_same() -> None:
    full = made(LeanSymmetricGaussian, 20, scale=torch.ones(20), fixed_sigma=True)
    sent = full.without_extras()
    assert set(sent.parameters) == {"mu", "sigma", "fixed_sigma"}
    populations = []
    for distribution in (full, sent):
        populations.append(torch.empty(6, 20))
        distribution.fill(populations[-1], seed=1, first=0)
    assert torch.equal(*populations)
    assert set(sent.sums(populations[0], vector(6))) == {"mu"}
