"""RGS: expected steps in closed form, and plain gradient descent as its limit."""

from typing import Any

import pytest
import torch
from evotorch import Problem
from torch import Tensor

from gls_es import RGS, bounds
from gls_es.errors import ConfigError
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build
from tests.problem.toys import Blobs, Cubic, Flat, Hole, Jump, Quadratic, Skewed, quadratic_gradient

SIGMA = 0.3
POPULATIONS = 300


def steps(problem: Any, center: Tensor, **options: Any) -> Tensor:
    """(POPULATIONS, L): what an SGD step of length 1 adds to the center in each of them."""
    chosen = {"popsize": 8, "stdev_init": SIGMA} | options
    searcher = RGS(problem, center_learning_rate=1.0, optimizer="sgd", center_init=center, **chosen)
    start = searcher._distribution
    rows = []
    for generation in range(POPULATIONS):
        problem.begin(generation)
        searcher._distribution = start
        searcher.step()
        rows.append(searcher.status["center"] - center)
    return torch.stack(rows)


def z_scores(rows: Tensor, wanted: Tensor) -> Tensor:
    return (rows.mean(0) - wanted) / (rows.std(0) / len(rows) ** 0.5)


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("popsize", [1, 5, 8])
def test_on_a_cubic_the_expected_step_is_the_mean_gradient(antithetic: bool, popsize: int) -> None:
    center = torch.tensor([0.1, -0.2])
    rows = steps(Cubic(), center, antithetic=antithetic, popsize=popsize)
    gradient = 3 * Cubic.COEFFICIENTS * (center**2 + SIGMA**2)
    assert float(z_scores(rows, -gradient).abs().max()) < 3.9
    assert float(z_scores(rows, -3 * Cubic.COEFFICIENTS * center**2).abs().max()) > 6  # not the gradient at the center


def test_on_a_quadratic_it_is_the_gradient_at_the_center() -> None:
    center = torch.tensor([0.5, -1.0, 0.25, 2.0])
    rows = steps(Quadratic(), center)
    assert float(z_scores(rows, -quadratic_gradient(center)).abs().max()) < 3.9
    assert float(z_scores(rows, -1.2 * quadratic_gradient(center)).abs().max()) > 6


def test_on_a_skewed_loss() -> None:
    center = torch.tensor([0.45, 0.0])
    rows = steps(Skewed(), center)
    gradient = torch.tensor([2 * torch.exp(torch.tensor(2 * 0.45 + 2 * SIGMA**2)), -1.0])
    assert float(z_scores(rows, -gradient).abs().max()) < 3.9


def test_it_does_not_see_a_jump() -> None:
    """PGPE finds 1.065 in the same place (test_pgpe.py)."""
    rows = steps(Jump(), torch.tensor([0.2, 0.0]))
    assert torch.equal(rows, torch.zeros_like(rows))


def test_antithetic_pairs_cancel_what_is_odd() -> None:
    center = torch.tensor([0.5, -1.0, 0.25, 2.0])
    rows = steps(Quadratic(), center, antithetic=True)
    assert torch.allclose(rows, -quadratic_gradient(center).expand(len(rows), -1), atol=1e-5)


@pytest.mark.parametrize(("popsize", "pairs"), [(1, 0), (2, 1), (5, 2), (6, 3)])
def test_antithetic_samples_come_in_pairs(popsize: int, pairs: int) -> None:
    problem = Blobs()
    searcher = RGS(problem, popsize=popsize, center_learning_rate=0.1, stdev_init=0.5, antithetic=True)
    searcher.step()
    noise = searcher.population.values.as_subclass(Tensor) - problem.network.parameter_vector()
    opposite = torch.cdist(noise, -noise) < 1e-5
    assert int(opposite.sum()) == 2 * pairs
    plain = RGS(Blobs(), popsize=popsize, center_learning_rate=0.1, stdev_init=0.5)
    plain.step()
    noise = plain.population.values.as_subclass(Tensor) - problem.network.parameter_vector()
    assert int((torch.cdist(noise, -noise) < 1e-5).sum()) == 0
    assert float(noise.std()) == pytest.approx(0.5, rel=0.3)


@pytest.mark.parametrize("method", ["crown", "ibp"])
def test_one_member_without_noise_is_adam_step_for_step(method: str) -> None:
    problem = Blobs(eps=0.05, method=method, batch_size=8)
    searcher = build("grad", problem, Recipe(center_learning_rate=0.02))
    other = Blobs(eps=0.05, method=method, batch_size=8)
    weights = other.network.parameter_vector().requires_grad_()
    adam = torch.optim.Adam([weights], lr=0.02)
    for generation in range(12):
        searcher.step()
        other.begin(generation)
        images, labels = other.minibatch.images, other.minibatch.labels
        lower, upper = (images - 0.05).clamp(min=0), (images + 0.05).clamp(max=1)
        found = bounds.margins(other.network, lower, upper, labels, method, weights[None])[0]
        adam.zero_grad()
        robust_cross_entropy(found).mean().backward()
        adam.step()
        assert torch.allclose(searcher.status["center"], weights.detach(), rtol=1e-5, atol=1e-6), generation
        assert float(searcher.status["mean_eval"]) == pytest.approx(float(robust_cross_entropy(found.detach()).mean()))
    assert float((weights.detach() - other.network.parameter_vector()).abs().max()) > 0.1


@pytest.mark.parametrize(("optimizer", "torchs"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_without_noise_it_is_torchs_own_optimizer_bit_for_bit(optimizer: str, torchs: Any) -> None:
    center = torch.tensor([0.5, -1.0, 0.25, 2.0])
    searcher = build("grad", Quadratic(), Recipe(optimizer=optimizer, center_learning_rate=0.03), center=center)
    weights = center.clone().requires_grad_()
    reference = torchs([weights], lr=0.03)
    for _ in range(50):
        searcher.step()
        reference.zero_grad()
        Quadratic.losses(searcher.problem, weights[None]).sum().backward()
        reference.step()
        assert torch.equal(searcher.status["center"], weights.detach())
    assert float((weights.detach() - center).abs().max()) > 0.5


def test_at_radius_zero_it_is_ordinary_training() -> None:
    problem = Blobs(eps=0.0, batch_size=20)
    searcher = build("grad", problem, Recipe(center_learning_rate=0.1, optimizer="sgd"))
    module = problem.network.module()
    images, labels = problem.data.train.batch()
    sgd = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(10):
        searcher.step()
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(module(images), labels).backward()
        sgd.step()
    weights = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    assert torch.allclose(searcher.status["center"], weights, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd", None])
def test_a_zero_gradient_moves_nothing(optimizer: str | None) -> None:
    searcher = RGS(Flat(), popsize=3, center_learning_rate=0.1, stdev_init=0.1, optimizer=optimizer)
    start = searcher.status["center"]
    for _ in range(3):
        searcher.step()
    assert torch.equal(searcher.status["center"], start)


@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd", None])
def test_it_descends(optimizer: str | None) -> None:
    searcher = RGS(
        Quadratic(), popsize=4, center_learning_rate=0.1, stdev_init=0.01, optimizer=optimizer,
        center_init=torch.tensor([3.0, 3.0, 3.0, 3.0]),
    )  # fmt: skip
    before = float(quadratic_gradient(searcher.status["center"]).norm())
    searcher.run(150)
    assert float(quadratic_gradient(searcher.status["center"]).norm()) < 0.2 * before


def test_bad_members_are_left_out_of_the_step() -> None:
    problem = Hole()
    rows = steps(problem, torch.tensor([0.9, 0.0]))
    assert problem.status["nonfinite"] > 0
    assert torch.allclose(rows, torch.tensor([1.0, 0.0]).expand(len(rows), -1), atol=1e-6)


def test_a_problem_without_gradients_is_refused() -> None:
    foreign = Problem("min", lambda x: (x**2).sum(1), solution_length=3, initial_bounds=(-1, 1), vectorized=True)
    with pytest.raises(TypeError, match=r"derive the problem from gls_es\.CertifiedTrainingProblem"):
        RGS(foreign, popsize=2, center_learning_rate=0.1, stdev_init=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"popsize": 0}, "popsize must be at least 1, not 0"),
        ({"popsize": 2.0}, "popsize must be a whole number"),
        ({"stdev_init": -0.1}, "must not be negative"),
        ({"stdev_init": float("nan")}, "must not be negative"),
        ({"stdev_init": torch.ones(3)}, "one number, or"),
        ({"stdev_init": None}, "either stdev_init or radius_init"),
        ({"center_learning_rate": 0}, "center_learning_rate must be greater than 0"),
        ({"center_learning_rate": "fast"}, "center_learning_rate must be greater than 0"),
        ({"optimizer": "adamw"}, "optimizer must be one of adam"),
        ({"optimizer": 3}, "optimizer must be one of adam"),
        ({"optimizer_config": 3}, "optimizer_config must be a dict"),
        ({"center_init": torch.zeros(2)}, "center_init must be"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RGS(Blobs(), **({"popsize": 2, "center_learning_rate": 0.1, "stdev_init": 0.1} | options))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_steps_do_not_depend_on_the_callers_modes(mode: Any) -> None:
    def center() -> torch.Tensor:
        searcher = RGS(Blobs(), popsize=2, center_learning_rate=0.1, stdev_init=0.1)
        searcher.run(2)
        return torch.as_tensor(searcher.status["center"]).clone()

    with mode():
        found = center()
    assert torch.equal(found, center())


def test_sigma_per_weight_and_by_radius() -> None:
    stdev = torch.tensor([0.0, 1.0, 0.0, 2.0])
    searcher = RGS(Quadratic(), popsize=400, center_learning_rate=0.1, stdev_init=stdev)
    center = searcher.status["center"]
    searcher.step()
    spread = (searcher.population.values.as_subclass(Tensor) - center).std(0)
    assert torch.allclose(spread, stdev, rtol=0.15)
    by_radius = RGS(Quadratic(), popsize=2, center_learning_rate=0.1, radius_init=0.6)
    assert torch.allclose(by_radius.status["stdev"], torch.full((4,), 0.3))


def test_the_given_center_is_not_changed() -> None:
    center = torch.ones(4)
    for name in ("pgpe", "rgs", "grad"):
        searcher = build(name, Quadratic(), Recipe(popsize=4), center=center)
        searcher.run(3)
        assert not torch.equal(searcher.status["center"], center)
    assert torch.equal(center, torch.ones(4))
