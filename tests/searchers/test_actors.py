"""Two actors do what one process does, up to rounding; and the shares themselves, without any actors."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from evotorch.algorithms import PGPE
from torch import Tensor

from gls_es.errors import ConfigError, DataError, TrainingError
from gls_es.problem.recipe import Recipe
from gls_es.problem.sharing import cut, pooled
from gls_es.searchers.table import build, finish_generation, mean_loss
from tests.conftest import with_ray
from tests.problem.toys import Blobs, Marked, Scripted

RECIPE = Recipe(stdev_init=0.1, center_learning_rate=0.05, gradient_clip=1.0, stdev_mode="relative")


@pytest.mark.parametrize(
    ("popsize", "unit", "shares", "wanted"),
    [
        (8, 2, 2, [(0, 4), (2, 4)]),
        (6, 2, 2, [(0, 2), (1, 4)]),
        (6, 1, 3, [(0, 2), (2, 2), (4, 2)]),
        (3, 2, 3, [(0, 2), (1, 1)]),
        (5, 2, 1, [(0, 5)]),
        (4, 2, 4, [(0, 2), (1, 2)]),
    ],
)
def test_shares_are_whole_units(popsize: int, unit: int, shares: int, wanted: list[tuple[int, int]]) -> None:
    found = cut(popsize, unit, shares)
    assert found == wanted
    assert sum(members for _, members in found) == popsize
    for (first, members), (following, _) in pairwise(found):
        assert following == first + members // unit


def test_members_that_cannot_be_shared_out() -> None:
    with pytest.raises(ConfigError, match="popsize must be a multiple of the number of actors, 2, not 7"):
        cut(7, 1, 2)
    with pytest.raises(ConfigError, match="multiple of the number of actors, 2, not 1"):
        build("grad", Blobs(num_actors=2), Recipe())


def test_pooled_gradients_count_the_finite_members_of_each_share() -> None:
    nan = torch.nan
    shares = [
        (torch.tensor([1.0, nan]), torch.tensor([3.0, 0.0])),
        (torch.tensor([2.0, 4.0, 5.0]), torch.tensor([1.0, 2.0])),
        (torch.tensor([nan]), torch.tensor([0.0, 0.0])),
    ]
    losses, gradient = pooled(shares)
    assert torch.equal(losses.nan_to_num(-1.0), torch.tensor([1.0, -1.0, 2.0, 4.0, 5.0, -1.0]))
    assert gradient.tolist() == [1.5, 1.5]


@pytest.mark.parametrize("fitness", ["raw", "normalized", "ranks"])
def test_a_shared_generation_in_one_process_is_an_ordinary_one(fitness: str) -> None:
    recipe = RECIPE.replaced(popsize=6, fitness=fitness, stdev_learning_rate=0.1)
    ordinary, shared = (build("pgpe", Blobs(batch_size=8, seed=3), recipe) for _ in range(2))
    for generation in range(3):
        for searcher in (ordinary, shared):
            searcher.problem.begin(generation)
        ordinary.step()
        finish_generation(ordinary)
        found = shared.problem.sample_and_compute_gradients(
            shared._distribution, 6, ranking_method=shared._ranking_method
        )
        assert found["mean_eval"] == pytest.approx(mean_loss(ordinary))
        shared._update_distribution(found["gradients"])
        assert shared.problem.status["generation"] == generation
        assert torch.equal(shared._distribution.mu, ordinary._distribution.mu)
        assert torch.equal(shared._distribution.sigma, ordinary._distribution.sigma)


@pytest.mark.parametrize("name", ["pgpe", "rgs"])
def test_a_shared_generation_without_a_finite_loss(name: str) -> None:
    problem = Scripted(size=4)
    problem.script = torch.full((4,), torch.nan)
    searcher = build(name, problem, Recipe(popsize=4))
    with pytest.raises(TrainingError, match="no member of generation 0 has a finite loss"):
        problem.sample_and_compute_gradients(searcher._distribution, 4)


def test_what_travels_to_an_actor_holds_no_data() -> None:
    problem = Blobs(batch_size=8)
    problem.evaluate(problem.generate_batch(2))
    copy = pickle.loads(pickle.dumps(problem))
    assert problem._data is not None
    assert copy._data is copy._batch is copy._share is None
    assert torch.equal(copy.data.train.images, problem.data.train.images)


@pytest.fixture(scope="module")
def spread(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marked]:
    """A problem with two actors, which take seconds to start."""
    problem = Marked(str(tmp_path_factory.mktemp("marks")), batch_size=8, seed=3, num_actors=2)
    yield problem
    problem.kill_actors()


def trajectory(name: str, recipe: Recipe, problem: Marked) -> tuple[Tensor, list[float]]:
    searcher = build(name, problem, recipe)
    usual = problem.stage
    problem.stages = lambda _: replace(usual, stand_in="ibp", exact_images=2, candidates=2)
    problem.network.load_buffers({"1.running_mean": torch.zeros(6), "1.running_var": torch.ones(6)})
    losses = []
    for generation in range(6):
        problem.begin(generation)
        problem.choose_images(searcher._distribution.mu)
        searcher.step()
        losses.append(mean_loss(searcher))
        finish_generation(searcher)
        problem.update_statistics(searcher._distribution.mu)  # which the actors get with the next generation
    problem.stages, problem.stage = None, usual
    assert float(problem.network.buffers()["1.running_mean"].abs().max()) > 0.01
    assert (searcher.population is None) == (problem.num_actors == 2)
    return torch.stack([searcher._distribution.mu, searcher._distribution.sigma]), losses


@with_ray
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pgpe", {"popsize": 6, "stdev_learning_rate": 0.1}),
        ("pgpe", {"popsize": 8, "fitness": "ranks", "optimizer": "sgd"}),
        ("pgpe", {"popsize": 8, "fitness": "normalized", "optimizer": "clipup"}),
        ("rgs", {"popsize": 6}),
        ("rgs", {"popsize": 6, "antithetic": True, "optimizer": "sgd"}),
    ],
)
def test_two_actors_find_what_one_process_finds(spread: Marked, name: str, changes: dict[str, Any]) -> None:
    recipe = RECIPE.replaced(**changes)
    alone, losses = trajectory(name, recipe, Marked(batch_size=8, seed=3))
    shared, shared_losses = trajectory(name, recipe, spread)
    again, _ = trajectory(name, recipe, spread)
    assert torch.allclose(shared, alone, rtol=1e-5, atol=1e-6)
    assert shared_losses == pytest.approx(losses, rel=1e-5)
    assert torch.equal(shared, again)
    assert float((alone[0] - spread.network.parameter_vector()).abs().max()) > 0.01


@with_ray
def test_gradients_of_a_population_that_is_held_here(spread: Marked) -> None:
    """RGS without ``distributed``, as a user may build it: pieces of the population go to the actors."""
    single = Marked(batch_size=8, seed=3)
    values = single.generate_values(5)
    values[4] = torch.nan
    found = []
    for problem in (single, spread):
        batch = problem.generate_batch(5)
        batch.set_values(values)
        problem.begin(1)
        problem.network.load_buffers({"1.running_mean": torch.full((6,), 0.2), "1.running_var": torch.ones(6)})
        found.append(problem.evaluate_with_gradient(batch))
        assert problem.status["nonfinite"] == 1
        found.append(batch.evals[:, 0].as_subclass(Tensor))
    assert torch.allclose(found[0], found[2], rtol=1e-4, atol=1e-6)
    assert torch.allclose(found[1], found[3], rtol=1e-5)


@with_ray
def test_evotorchs_own_distribution_on_actors_is_reproducible(spread: Marked) -> None:
    centers = []
    for _ in range(2):
        searcher = PGPE(
            spread, popsize=6, center_learning_rate=0.1, stdev_learning_rate=0.1, stdev_init=0.1, distributed=True
        )
        for generation in range(3):
            spread.begin(generation)
            searcher.step()
        centers.append(searcher.status["center"].as_subclass(Tensor))
    assert torch.equal(*centers)
    assert not torch.equal(centers[0], spread.network.parameter_vector())


@with_ray
@pytest.mark.parametrize(
    ("mark", "error", "message"),
    [
        ("stumble", DataError, "the images are gone"),
        ("crash", TrainingError, r"an actor failed in generation 2 \(ValueError: what is this\)"),
    ],
)
def test_what_goes_wrong_in_an_actor_is_said(spread: Marked, mark: str, error: type[Exception], message: str) -> None:
    searcher = build("rgs", spread, RECIPE.replaced(popsize=4))
    center = searcher._distribution.mu
    file = Path(spread.folder) / mark
    file.touch()
    spread.begin(2)
    with pytest.raises(error, match=message):
        searcher.step()
    file.unlink()
    assert searcher._distribution.mu is center
