"""Asking and telling is stepping: the same members, the same centers, with losses that come from elsewhere."""

from typing import Any

import pytest
import torch
from torch import Tensor

import gls_es
from gls_es.errors import ConfigError, TrainingError
from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import DEFAULTS, build, position, run_generation, searcher_state
from tests.problem.toys import Blobs, Quadratic, Root, Scripted

SEARCHERS = ["pgpe", "rgs", "grad", "snes", "xnes", "cem"]


def made(name: str, problem: Any, **changes: Any) -> Any:
    return build(name, problem, DEFAULTS[name].replaced(popsize=8, stdev_init=0.1, **changes))


@pytest.mark.parametrize("name", SEARCHERS)
@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd"])
def test_asking_and_telling_is_stepping(name: str, optimizer: str) -> None:
    """Also when they take turns with steps, and whether or not the problem is told of the generation."""
    if name in ("xnes", "cem"):
        optimizer = "sgd"
    for begins in (True, False):
        stepped, asked = (made(name, Quadratic(), optimizer=optimizer) for _ in range(2))
        for generation in range(6):
            for searcher in (stepped, asked) if begins else ():
                searcher.problem.begin(generation)
            run_generation(stepped)
            if generation == 3:
                run_generation(asked)
            elif generation == 4:  # step() leaves its update to whoever comes next
                asked.step()
            else:
                asked.tell(asked.problem.losses(asked.ask()))
            if generation != 4:
                assert torch.equal(position(asked), position(stepped))
        assert asked.step_count == stepped.step_count == 6
        assert asked.status["mean_eval"] == stepped.status["mean_eval"]
        assert asked.status["nonfinite"] == 0
        first, second = searcher_state(asked), searcher_state(stepped)
        assert all(torch.equal(first["optimizer"][key], value) for key, value in second["optimizer"].items())


@pytest.mark.parametrize("name", ["pgpe", "rgs"])
def test_on_images_a_loop_of_ones_own_is_the_run(name: str) -> None:
    stepped, asked = (made(name, Blobs(batch_size=8)) for _ in range(2))
    for generation in range(4):
        for searcher in (stepped, asked):
            searcher.problem.begin(generation)
        run_generation(stepped)
        asked.tell(asked.problem.losses(asked.ask()))
    torch.testing.assert_close(position(asked), position(stepped), rtol=1e-5, atol=1e-6)


def test_rgs_takes_gradients_from_elsewhere() -> None:
    """The mean of the finite ones, by a plain step of size 1."""
    searcher = made("rgs", Root(), optimizer="sgd", center_learning_rate=1.0)
    start = position(searcher).clone()
    members = searcher.ask()
    gradients = torch.arange(16.0).reshape(8, 2)
    losses = torch.zeros(8)
    losses[2], gradients[5, 1] = torch.nan, torch.inf
    searcher.tell(losses, gradients)
    kept = [0, 1, 3, 4, 6, 7]
    torch.testing.assert_close(position(searcher), start - gradients[kept].mean(0))
    assert searcher.status["nonfinite"] == 2
    assert members.requires_grad


def test_a_bad_loss_counts_as_the_worst() -> None:
    """PGPE told NaN moves as if told the worst finite loss."""
    centers = []
    for bad in (torch.nan, 3.0):
        searcher = made("pgpe", Scripted(size=4), fitness="raw")
        searcher.ask()
        searcher.tell(torch.tensor([bad, 0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 2.5]))
        centers.append(position(searcher))
    assert torch.equal(*centers)
    searcher.ask()
    with pytest.raises(TrainingError, match="no member of generation"):
        searcher.tell(torch.full((8,), torch.nan))


def test_what_cannot_be_told() -> None:
    pgpe, rgs = made("pgpe", Quadratic()), made("rgs", Quadratic())
    for searcher in (pgpe, rgs):
        with pytest.raises(ConfigError, match="call ask\\(\\) first"):
            searcher.tell(torch.zeros(8))
        searcher.ask()
        with pytest.raises(ConfigError, match="needs 8 losses, one for each member, not \\(3,\\)"):
            searcher.tell([0.0, 1.0, 2.0])
    with pytest.raises(ConfigError, match="RGS follows gradients"):
        rgs.tell(torch.zeros(8))
    rgs.ask()
    with pytest.raises(ConfigError, match="gradients of shape \\(8, 4\\), not \\(8, 3\\)"):
        rgs.tell(torch.zeros(8), torch.zeros(8, 3))
    pgpe.tell(torch.arange(8.0))
    with pytest.raises(ConfigError, match="call ask\\(\\) first"):
        pgpe.tell(torch.arange(8.0))


def test_members_that_were_asked_for_are_the_callers() -> None:
    """Writing into them changes nothing, for instance an attack on the weights in place."""
    searchers = [build("pgpe", Quadratic(), Recipe(popsize=4)) for _ in range(2)]
    for searcher, spoilt in zip(searchers, (False, True), strict=True):
        members = searcher.ask()
        losses = searcher.problem.losses(members)
        if spoilt:
            members.zero_()
        assert type(members) is Tensor
        searcher.tell(losses)
    assert torch.equal(*map(position, searchers))


@pytest.mark.parametrize("name", ["snes", "xnes", "cem", "cmaes", "ga"])
def test_a_recipe_that_never_chose_ranks_is_told_which_one_does(name: str) -> None:
    """Word for word: what the message names can be built, and has what was chosen."""
    with pytest.raises(ConfigError, match='needs fitness="ranks", not "raw"; gls_es') as told:
        build(name, Quadratic(), Recipe(popsize=12, generations=7))
    recipe = eval(str(told.value).split("; ")[1].split(" has it.")[0], {"gls_es": gls_es})
    assert (recipe.popsize, recipe.generations, recipe.fitness) == (12, 7, "ranks")
    searcher = build(name, Quadratic(), recipe)
    if name in ("cmaes", "ga"):
        assert str(told.value).endswith("It has step() only, no ask().")
        for call in (searcher.ask, lambda: searcher.tell([1.0] * 12)):
            with pytest.raises(ConfigError, match="has step\\(\\) only"):
                call()
    else:
        assert searcher.ask().shape == (12, 4)
