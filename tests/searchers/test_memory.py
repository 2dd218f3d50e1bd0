"""How much memory a generation of PGPE takes at its peak, counted by torch's own allocator."""

from collections.abc import Callable

import pytest
from evotorch.algorithms import PGPE
from evotorch.algorithms.searchalgorithm import SearchAlgorithm
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build, finish_generation
from tests.problem.toys import Blobs, perceptron

MEMBERS, LENGTH = 32, 200_003


class Cheap(Blobs):
    """Many weights, small images, and a loss that needs no memory."""

    def make_network(self) -> nn.Module:
        return perceptron(25_000)

    def losses(self, values: Tensor) -> Tensor:
        return values[:, :2].square().sum(1)


def peak(make: Callable[[], SearchAlgorithm]) -> float:
    """The most bytes of tensors alive at once while a searcher is built and runs two generations, in populations."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        searcher = make()
        for _ in range(2):
            searcher.step()
            finish_generation(searcher)
    alive = most = 0
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most / (4 * MEMBERS * LENGTH)


@pytest.mark.parametrize(
    ("stdev_learning_rate", "most"),
    [(0.0, 1.35), (0.1, 1.55)],  # EvoTorch limits the change of a learned σ with seven vectors, at any population
)
def test_pgpe_holds_little_more_than_its_population(stdev_learning_rate: float, most: float) -> None:
    problem = Cheap()
    assert problem.network.num_parameters == LENGTH
    recipe = Recipe(popsize=MEMBERS, stdev_learning_rate=stdev_learning_rate)
    assert 1.0 < peak(lambda: build("pgpe", problem, recipe)) <= most


def test_evotorchs_own_distribution_holds_twice_as_much() -> None:
    problem = Cheap()
    options = {"center_learning_rate": 0.01, "stdev_learning_rate": 0.0, "stdev_init": 0.02, "optimizer": "adam"}
    assert peak(lambda: PGPE(problem, popsize=MEMBERS, ranking_method="raw", **options)) > 2.4
