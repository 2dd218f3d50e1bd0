"""EvoTorch's PGPE as the table builds it: the direction it follows, and its postponed update done at once.

A direction is measured by what an SGD step of length 1 adds to a fixed center, over many independent populations; the
mean of N such steps has the standard error (their standard deviation) / sqrt(N).
"""

from itertools import pairwise

import pytest
import torch
from evotorch.algorithms import PGPE
from torch import Tensor

from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe
from gls_es.searchers import with_lean_population
from gls_es.searchers.table import build, finish_generation, set_learning_rate, set_stdev
from tests.problem.toys import MATRIX, Blobs, Cubic, Flat, Jump, Quadratic, Skewed, quadratic_gradient

SIGMA = 0.3
POPULATIONS = 300


def steps(
    problem: CertifiedTrainingProblem,
    center: Tensor,
    *,
    fitness: str = "raw",
    popsize: int = 20,
    sigma: float | Tensor = SIGMA,
) -> Tensor:
    """(POPULATIONS, L): what the searcher adds to the center in each of them."""
    recipe = Recipe(popsize=popsize, optimizer="sgd", center_learning_rate=1.0, fitness=fitness)
    searcher = build("pgpe", problem, recipe, center=center)
    sigmas = torch.as_tensor(sigma).expand(len(center)).clone()
    start = searcher._distribution.modified_copy(sigma=sigmas)
    rows = []
    for generation in range(POPULATIONS):
        problem.begin(generation)
        searcher._distribution = start
        searcher.step()
        finish_generation(searcher)
        rows.append(searcher._distribution.mu - center)
    return torch.stack(rows)


def z_scores(rows: Tensor, wanted: Tensor) -> Tensor:
    return (rows.mean(0) - wanted) / (rows.std(0) / len(rows) ** 0.5)


def turn(rows: Tensor, gradient: Tensor) -> float:
    """How many standard errors the mean step leaves the line of the gradient by (in the plane)."""
    aside = rows @ torch.tensor([-gradient[1], gradient[0]])
    return abs(float(z_scores(aside[:, None], torch.zeros(1))))


def test_on_a_quadratic_the_expected_step_is_the_gradient_of_the_smoothed_loss() -> None:
    center = torch.tensor([0.5, -1.0, 0.25, 2.0])
    gradient = quadratic_gradient(center)
    rows = steps(Quadratic(), center)
    z = z_scores(rows, -gradient)
    assert float(z.abs().max()) < 3.9  # 1 in 2,600 for four components
    assert float(z_scores(rows, torch.zeros(4)).norm()) > 40  # the test sees a missing gradient ...
    assert float(z_scores(rows, -1.2 * gradient).abs().max()) > 5  # ... and one of the wrong length


def test_on_a_cubic_it_is_not_the_gradient_of_the_loss_itself() -> None:
    center = torch.tensor([0.1, -0.2])
    rows = steps(Cubic(), center)
    smoothed = 3 * Cubic.COEFFICIENTS * (center**2 + SIGMA**2)
    assert float(z_scores(rows, -smoothed).abs().max()) < 3.9
    assert float(z_scores(rows, -3 * Cubic.COEFFICIENTS * center**2).abs().max()) > 8


def test_on_a_skewed_loss_raw_fitness_keeps_the_direction_and_ranks_turn_it() -> None:
    center = torch.tensor([0.45, 0.0])
    gradient = torch.tensor([2 * torch.exp(torch.tensor(2 * 0.45 + 2 * SIGMA**2)), -1.0])
    raw = steps(Skewed(), center, popsize=200)
    assert float(z_scores(raw, -gradient).abs().max()) < 3.9
    assert turn(raw, gradient) < 3.9
    assert turn(steps(Skewed(), center, fitness="ranks", popsize=200), gradient) > 5


def test_with_a_stdev_for_each_weight_raw_fitness_keeps_the_gradient() -> None:
    """EvoTorch's own estimate is σ² times it, weight by weight, which turns it by a factor of 16 here."""
    center, sigma = torch.tensor([0.45, 0.0]), torch.tensor([0.3, 1.2])
    gradient = torch.tensor([2 * torch.exp(torch.tensor(2 * 0.45 + 2 * 0.3**2)), -1.0])
    rows = steps(Skewed(), center, popsize=200, sigma=sigma)
    assert float(z_scores(rows, -gradient).abs().max()) < 3.9
    turned = sigma**2 * gradient
    assert turn(rows, gradient) < 3.9
    assert turn(rows, turned) > 20


def test_it_sees_a_jump() -> None:
    """For L = 1[x < 0] the gradient of L_σ is -φ(x/σ)/σ: 1.065 at x = 0.2, σ = 0.3 (see test_rgs.py for RGS)."""
    rows = steps(Jump(), torch.tensor([0.2, 0.0]))
    wanted = torch.exp(torch.tensor(-0.5 * (0.2 / SIGMA) ** 2)) / (SIGMA * (2 * torch.pi) ** 0.5)
    assert float(wanted) == pytest.approx(1.065, abs=1e-3)
    assert float(z_scores(rows, torch.tensor([float(wanted), 0.0])).abs().max()) < 3.9
    assert float(z_scores(rows, torch.zeros(2))[0]) > 20


def stdev_gradients(problem: CertifiedTrainingProblem, center: Tensor, *, popsize: int) -> Tensor:
    """(POPULATIONS, L): the estimates that a learned σ follows."""
    recipe = Recipe(popsize=popsize, stdev_init=SIGMA, stdev_learning_rate=0.1)
    searcher = build("pgpe", problem, recipe, center=center)
    rows = []
    for generation in range(POPULATIONS):
        samples = searcher._distribution.sample(popsize, generator=torch.Generator().manual_seed(generation))
        losses = problem.losses(samples)
        rows.append(searcher._distribution.compute_gradients(samples, losses, objective_sense="min")["sigma"])
    return torch.stack(rows)


def test_the_gradient_of_the_stdev_on_a_quadratic_and_an_exponential() -> None:
    """E L = const + Σ A_ii σ_i²/2, and exp(2x + 2σ²) + (y - 1)²/2 + σ²/2. The estimate is -σ² times the derivative; the
    mean loss of the same D pairs is taken off it, which costs it 1/D."""
    popsize = 40
    share = 1 - 2 / popsize
    rows = stdev_gradients(Quadratic(), torch.tensor([0.5, -1.0, 0.25, 2.0]), popsize=popsize)
    wanted = -(SIGMA**3) * MATRIX.diagonal() * share
    assert float(z_scores(rows, wanted).abs().max()) < 3.9
    assert float(z_scores(rows, torch.zeros(4)).abs().max()) > 10
    rows = stdev_gradients(Skewed(), torch.tensor([0.45, 0.0]), popsize=popsize)
    wanted = -(SIGMA**3) * torch.tensor([4 * torch.exp(torch.tensor(0.9 + 2 * SIGMA**2)), 1.0]) * share
    assert float(z_scores(rows, wanted).abs().max()) < 3.9
    assert float(z_scores(rows, torch.zeros(2)).abs().max()) > 10


def test_normalized_fitness_keeps_the_direction_in_large_populations() -> None:
    center = torch.tensor([0.45, 0.0])
    gradient = torch.tensor([2 * torch.exp(torch.tensor(2 * 0.45 + 2 * SIGMA**2)), -1.0])

    def angle(fitness: str) -> float:
        mean = -steps(Skewed(), center, fitness=fitness, popsize=200).mean(0)
        return float(torch.arccos(torch.cosine_similarity(mean, gradient, dim=0)))

    ranks, normalized = angle("ranks"), angle("normalized")
    assert ranks > 0.03
    assert normalized < ranks / 3


def test_members_are_pairs_around_the_center() -> None:
    problem = Blobs()
    searcher = build("pgpe", problem, Recipe(popsize=8))
    searcher.step()
    noise = searcher.population.values.as_subclass(Tensor) - problem.network.parameter_vector()
    assert torch.allclose(noise[0::2], -noise[1::2], atol=1e-6)
    assert float(noise[0::2].std()) == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd"])
@pytest.mark.parametrize("fitness", ["raw", "normalized", "ranks"])
@pytest.mark.parametrize("stdev_learning_rate", [0.0, 0.1])
def test_doing_the_postponed_update_at_once_gives_evotorchs_own_centers(
    optimizer: str, fitness: str, stdev_learning_rate: float
) -> None:
    count = 5
    recipe = Recipe(
        popsize=6, optimizer=optimizer, fitness=fitness, stdev_learning_rate=stdev_learning_rate, stdev_init=0.1
    )
    ours = build("pgpe", Blobs(seed=2, batch_size=8), recipe)
    stock = PGPE(
        Blobs(seed=2, batch_size=8),
        popsize=6,
        center_learning_rate=recipe.center_learning_rate,
        stdev_learning_rate=stdev_learning_rate,
        stdev_init=0.1,
        stdev_max_change=0.2 if stdev_learning_rate else None,
        optimizer=optimizer,
        ranking_method={"raw": "raw", "normalized": "normalized", "ranks": "centered"}[fitness],
    )
    with_lean_population(stock)  # all that is ours; the search is EvoTorch's
    stock.step()
    seen = []
    for _ in range(count):
        ours.step()
        finish_generation(ours)
        stock.step()
        center, stdev = ours._distribution.mu, ours._distribution.sigma
        assert torch.equal(center, stock.status["center"])
        assert torch.equal(stdev, stock.status["stdev"])
        seen.append(center)
    assert all(not torch.equal(a, b) for a, b in pairwise(seen))
    assert torch.equal(stdev, torch.full_like(stdev, 0.1)) == (stdev_learning_rate == 0)


def test_finishing_twice_or_before_the_first_step_does_nothing() -> None:
    searcher = build("pgpe", Blobs(), Recipe(popsize=4))
    finish_generation(searcher)
    start = searcher._distribution.mu
    searcher.step()
    finish_generation(searcher)
    once = searcher._distribution.mu
    finish_generation(searcher)
    assert not torch.equal(start, once)
    assert torch.equal(searcher._distribution.mu, once)


@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd"])
@pytest.mark.parametrize("fitness", ["raw", "normalized"])
def test_equal_losses_give_no_direction(optimizer: str, fitness: str) -> None:
    searcher = build("pgpe", Flat(), Recipe(popsize=4, optimizer=optimizer, fitness=fitness))
    start = searcher._distribution.mu
    for _ in range(3):
        searcher.step()
        finish_generation(searcher)
    assert torch.equal(searcher._distribution.mu, start)


def test_a_learned_stdev_follows_the_curvature() -> None:
    """On 1/2 x'Ax the smoothed loss grows with σ: it has to shrink, by no more than a fifth a step."""
    recipe = Recipe(popsize=40, optimizer="sgd", center_learning_rate=1e-6, stdev_init=0.3, stdev_learning_rate=0.2)
    searcher = build("pgpe", Quadratic(), recipe, center=torch.zeros(4))
    history = [searcher._distribution.sigma]
    for _ in range(30):
        searcher.step()
        finish_generation(searcher)
        history.append(searcher._distribution.sigma)
    rows = torch.stack(history)
    ratio = rows[1:] / rows[:-1]
    assert bool((ratio >= 0.8 - 1e-6).all() & (ratio <= 1.2 + 1e-6).all())
    assert bool((rows[-1] < rows[0]).all() & (rows > 0).all())


@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd"])
def test_the_learning_rate_can_be_set_at_any_step(optimizer: str) -> None:
    lengths = []
    recipe = Recipe(popsize=4, optimizer=optimizer, stdev_init=0.5)
    for rate in (0.1, 0.001):
        searcher = build("pgpe", Quadratic(), recipe, center=torch.ones(4))
        set_learning_rate(searcher, rate)
        searcher.step()
        finish_generation(searcher)
        lengths.append(float((searcher._distribution.mu - 1).norm()))
    assert lengths[0] == pytest.approx(100 * lengths[1], rel=1e-2)


def test_the_stdev_can_be_set_at_any_step() -> None:
    searcher = build("pgpe", Blobs(), Recipe(popsize=200))
    set_stdev(searcher, 0.7)
    searcher.step()
    noise = searcher.population.values.as_subclass(Tensor)[0::2] - searcher._distribution.mu
    assert float(noise.std()) == pytest.approx(0.7, rel=0.05)


@pytest.mark.parametrize(
    ("name", "recipe", "message"),
    [
        ("pgpe", Recipe(popsize=7), "popsize must be even, not 7"),
        ("pgpe", Recipe(stdev_init=0.0), "stdev_init must be greater than 0"),
        ("pgpee", Recipe(), "unknown searcher 'pgpee': did you mean 'pgpe'"),
    ],
)
def test_recipes_that_cannot_be_followed(name: str, recipe: Recipe, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, Blobs(), recipe)
