"""Equality with the dense reference on networks drawn at random; a few always, more when asked for (``-m slow``)."""

import pytest
import torch

from gls_es import bounds
from gls_es.bounds import matrix
from gls_es.bounds.plan import Plan
from tests.oracles import dense
from tests.oracles.api import WITH_REFERENCE, assert_near, network
from tests.oracles.nets import Case
from tests.oracles.problems import Problem, problem
from tests.oracles.random_nets import random_case
from tests.oracles.random_structure import structured_case
from tests.oracles.zoo_structure import Joined

PLANS = (None, Plan(bytes=1 << 40, members=8), Plan(bytes=2000, members=2))


def check(case: Case, plan: Plan | None) -> None:
    """Every method under one of the plans, margins and pre-activations, on two members and one image.

    Methods whose slopes jump where some neuron of this net lies are passed over: the slope 0 jumps at l = 0, which a
    ReLU after a ReLU hits up to rounding.
    """
    task: Problem = problem(case, 2, 1)
    net = network(task, torch.float64)
    box = task.lower.double(), task.upper.double()
    for method in WITH_REFERENCE:
        expected = [
            dense.reference(method, task.nodes(p), task.lower[0], task.upper[0], int(task.labels[0])) for p in (0, 1)
        ]
        if min(result.tie for result in expected) < 1e-9:
            continue
        with torch.no_grad():
            margins = bounds.margins(net, *box, task.labels, method=method, params=task.params.double(), plan=plan)
            layers = bounds.preactivations(net, *box, method=method, params=task.params.double(), plan=plan)
        for p, result in enumerate(expected):
            assert_near(margins[p, 0], torch.tensor(result.margins), 1e-9)
            for pair, wanted in zip(layers, result.preactivations, strict=True):
                for side, values in zip(pair, wanted, strict=True):
                    assert_near(side[p, 0].flatten(), torch.tensor(values), 1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_random_networks_equal_the_reference(seed: int) -> None:
    check(random_case(seed), PLANS[seed % len(PLANS)])


@pytest.mark.parametrize("seed", range(25))
def test_random_structure_equals_the_reference(seed: int) -> None:
    """Values moved, joined and summed; the reference multiplies with matrices of ones and zeros instead."""
    check(structured_case(seed), PLANS[seed % len(PLANS)])


@pytest.mark.parametrize("plan", PLANS, ids=["default", "together", "small"])
def test_joined_channels_on_windows_equal_the_reference(plan: Plan | None) -> None:
    check(Case("joined", Joined, (1, 10, 12), 0.04), plan)


@pytest.mark.slow
def test_many_random_networks_equal_the_reference() -> None:
    for seed in range(1000, 1060):
        check(random_case(seed), PLANS[seed % len(PLANS)])
        check(structured_case(seed), PLANS[seed % len(PLANS)])


@pytest.mark.parametrize("seed", [5068, 5173, 20293, *range(300, 315)])
def test_random_networks_equal_the_reference_without_matrices(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions, too, by the ways of the large ones: cells, margins, native transposed convolutions."""
    monkeypatch.setattr(matrix, "ALONE", 0.0)
    monkeypatch.setattr(matrix, "TOGETHER", 0.0)
    check(random_case(seed), PLANS[seed % len(PLANS)])
