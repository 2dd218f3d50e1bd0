"""σ per layer: what it is relative to, how it is scheduled and restored, and what is said of it."""

import pickle

import pytest
import torch
from torch import Tensor, nn

from gls_es import RGS
from gls_es.errors import ConfigError
from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build, finish_generation, restore_searcher, searcher_state, set_stdev
from tests.problem.toys import Blobs

RELATIVE = Recipe(popsize=4, stdev_init=0.1, stdev_mode="relative")


def layer_rms(weights: Tensor) -> dict[str, tuple[float, slice]]:
    """Of the perceptron 4 -> 6 -> 3 in the order of its parameters: two weight matrices, each with its bias."""
    return {
        "0": (float(weights[:24].square().mean().sqrt()), slice(0, 30)),
        "2": (float(weights[30:48].square().mean().sqrt()), slice(30, 51)),
    }


@pytest.mark.parametrize("name", ["pgpe", "rgs"])
def test_relative_noise_is_a_share_of_the_layers_weights(name: str) -> None:
    problem = Blobs(batch_size=4)
    searcher = build(name, problem, RELATIVE)
    sigma = searcher._distribution.sigma
    for rms, place in layer_rms(problem.network.parameter_vector()).values():
        assert torch.allclose(sigma[place], torch.tensor(0.1 * rms))
    assert len(sigma.unique()) == 2


def test_relative_noise_belongs_to_the_weights_the_run_starts_from() -> None:
    problem = Blobs(batch_size=4)
    center = 3.0 * problem.network.parameter_vector()
    searcher = build("rgs", problem, RELATIVE, center=center)
    start = searcher._distribution.sigma
    for rms, place in layer_rms(center).values():
        assert torch.allclose(start[place], torch.tensor(0.1 * rms))
    searcher.run(3)
    assert torch.equal(searcher._distribution.sigma, start)


def test_a_schedule_scales_it_and_a_checkpoint_keeps_it() -> None:
    problem = Blobs(batch_size=4)
    first = build("pgpe", problem, RELATIVE, center=3.0 * problem.network.parameter_vector())
    start = first._distribution.sigma
    first.step()
    finish_generation(first)
    set_stdev(first, 0.05)
    assert torch.allclose(first._distribution.sigma, start / 2)
    second = build("pgpe", Blobs(batch_size=4), RELATIVE)
    restore_searcher(second, searcher_state(first))
    for searcher in (first, second):
        set_stdev(searcher, 0.025)
    assert torch.equal(first._distribution.sigma, second._distribution.sigma)
    assert torch.allclose(second._distribution.sigma, start / 4)


def test_a_layer_of_zeros_has_no_scale() -> None:
    class Zero(Blobs):
        def make_network(self) -> nn.Module:
            net = super().make_network()
            nn.init.zeros_(net[2].weight)
            return net

    with pytest.raises(ConfigError, match="layer '2' starts with all weights 0"):
        build("rgs", Zero(), RELATIVE)


@pytest.mark.parametrize("name", ["pgpe", "rgs", "grad"])
def test_the_status_tells_the_noise_of_each_layer(name: str) -> None:
    problem = Blobs(batch_size=4)
    searcher = build(name, problem, Recipe(popsize=200, stdev_init=0.2))
    weights = searcher._distribution.mu
    searcher.step()
    told = searcher.status["noise"]
    noise = searcher.population.values.as_subclass(Tensor) - weights
    center = searcher._distribution.mu
    for layer, (_, place) in layer_rms(weights).items():
        stdev = 0.0 if name == "grad" else 0.2
        assert told[layer]["stdev"] == pytest.approx(stdev)
        measured = float(noise[:, place].norm(dim=1).square().mean().sqrt() / center[place].norm())
        assert told[layer]["noise_to_weights"] == pytest.approx(measured, rel=0.05)  # 100 directions of 21 weights
    assert list(told) == ["0", "2"]


def test_weights_of_length_zero_have_no_ratio() -> None:
    searcher = build("rgs", Blobs(), Recipe(popsize=2), center=torch.zeros(51))
    assert searcher.status["noise"]["0"]["noise_to_weights"] is None


@pytest.mark.parametrize("name", ["pgpe", "rgs"])
@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd"])
def test_a_pickled_searcher_goes_on_bit_for_bit(name: str, optimizer: str) -> None:
    recipe = Recipe(popsize=4, optimizer=optimizer, stdev_mode="relative", stdev_init=0.1)
    straight = build(name, Blobs(batch_size=4), recipe)
    straight.run(10)
    first = build(name, Blobs(batch_size=4), recipe)
    first.run(5)
    second = pickle.loads(pickle.dumps(first))
    second.run(5)
    assert torch.equal(second.status["center"], straight.status["center"])
    assert not torch.equal(second.status["center"], first.status["center"])
    assert second.status["noise"] == straight.status["noise"] != first.status["noise"]


def test_pgpe_and_rgs_take_turns_on_one_problem() -> None:
    problem = Blobs(batch_size=20, eps=0.05)
    pgpe = build("pgpe", problem, Recipe(popsize=40, stdev_init=0.05, center_learning_rate=0.05))
    rgs = RGS(problem, popsize=8, center_learning_rate=0.05, stdev_init=0.05)
    losses, generations, logged = {pgpe: [], rgs: []}, [], []
    for searcher in (pgpe, rgs):
        searcher.log_hook.append(lambda status: logged.append(set(status)))
        searcher.after_step_hook.append(lambda: {"told": problem.generation})
    for _ in range(25):
        for searcher in (pgpe, rgs):
            searcher.step()
            generations.append(searcher.status["told"])
            losses[searcher].append(searcher.status["mean_eval"])
    assert generations == list(range(50))
    assert all(rows[-1] < 0.8 * rows[0] for rows in losses.values())
    assert logged[0] - logged[1] == {"noise"}
    assert {"center", "stdev", "mean_eval", "median_eval", "pop_best", "pop_best_eval", "iter", "eps"} <= logged[1]


@pytest.mark.parametrize("name", ["rgs", "grad"])
def test_only_pgpe_learns_the_stdev(name: str) -> None:
    with pytest.raises(ConfigError, match="only PGPE learns σ"):
        build(name, Blobs(), Recipe(popsize=1, stdev_learning_rate=0.1))


def test_the_recipe_reaches_antithetic_sampling_and_clipping() -> None:
    problem = Blobs(batch_size=4)
    recipe = Recipe(popsize=5, antithetic=True, stdev_init=0.5, optimizer="sgd", center_learning_rate=1.0)
    lengths = []
    for clip in (0.0, 0.01):
        searcher = build("rgs", problem, recipe.replaced(gradient_clip=clip))
        start = searcher._distribution.mu
        searcher.step()
        noise = searcher.population.values.as_subclass(Tensor) - start
        assert torch.allclose(noise[0:4:2], -noise[1:4:2], atol=1e-6)
        lengths.append(float((searcher._distribution.mu - start).norm()))
    assert lengths[0] > 0.02
    assert lengths[1] == pytest.approx(0.01, rel=1e-4)
