"""A member whose loss is not finite never wins and never draws the center towards it."""

import pytest
import torch
from torch import Tensor

from gls_es.errors import TrainingError
from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build, finish_generation
from tests.problem.toys import Hole, InfiniteHole, Scripted

FITNESS = ["raw", "normalized", "ranks"]


@pytest.mark.parametrize("fitness", FITNESS)
@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_center_moves_away_from_a_bad_member(fitness: str, optimizer: str, bad: float) -> None:
    """In 600 dimensions the noises of different pairs are nearly orthogonal, so a step's component along one pair is
    that pair's own doing."""
    problem = Scripted(size=600)
    problem.script = torch.tensor([bad, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    recipe = Recipe(popsize=8, fitness=fitness, optimizer=optimizer, stdev_init=0.1)
    searcher = build("pgpe", problem, recipe)
    start = searcher._distribution.mu
    searcher.step()
    towards = searcher.population.values[0].as_subclass(Tensor) - start
    assert searcher.population.evals[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert float(searcher.status["pop_best_eval"]) == 0.0
    finish_generation(searcher)
    step = searcher._distribution.mu - start
    assert bool(torch.isfinite(step).all())
    assert float(torch.cosine_similarity(step, towards, dim=0)) < -0.1
    assert searcher.status["nonfinite"] == 1


@pytest.mark.parametrize("fitness", FITNESS)
@pytest.mark.parametrize("cls", [Hole, InfiniteHole])
@pytest.mark.parametrize("optimizer", ["adam", "clipup"])
def test_a_descent_stops_at_the_wall(fitness: str, cls: type[Hole], optimizer: str) -> None:
    problem = cls()
    recipe = Recipe(popsize=20, fitness=fitness, optimizer=optimizer, stdev_init=0.2, center_learning_rate=0.01)
    searcher = build("pgpe", problem, recipe, center=torch.tensor([0.5, 0.0]))
    bad = 0
    for _ in range(120):
        searcher.step()
        bad += searcher.status["nonfinite"]
        finish_generation(searcher)
        assert bool(torch.isfinite(searcher._distribution.mu).all())
    assert bad > 0
    assert 0.6 < float(searcher._distribution.mu[0]) < 1.2


@pytest.mark.parametrize("name", ["pgpe", "rgs", "grad"])
def test_nothing_finite_stops_the_searcher_where_it_was(name: str) -> None:
    problem = Scripted(size=4)
    searcher = build(name, problem, Recipe(popsize=2))
    problem.script = torch.tensor([0.5, 1.0][: searcher._popsize])
    searcher.step()
    finish_generation(searcher)
    center = searcher._distribution.mu.clone()
    problem.script = problem.script * torch.nan
    with pytest.raises(TrainingError):
        searcher.step()
    assert torch.equal(searcher._distribution.mu, center)
