"""crown-unstable: which neurons keep their intervals, and what is the same as when every neuron has its own pass."""

import pytest
import torch

from gls_es import bounds
from tests.oracles.api import METHODS, assert_near, network
from tests.oracles.digits import IBP_TRAINED, NATURALLY_TRAINED, drawn_digits
from tests.oracles.nets import Case
from tests.oracles.problems import problem


@pytest.mark.parametrize("eps", [0.02, 0.1])
@pytest.mark.parametrize("case", [IBP_TRAINED, NATURALLY_TRAINED], ids=lambda c: c.name)
def test_stable_neurons_keep_intervals_and_the_others_are_those_of_crown_intersect(case: Case, eps: float) -> None:
    """In the first two layers, where both methods start from the same intervals."""
    task = problem(case, 3, 1)
    images, _ = drawn_digits(6, seed=3)
    box = (images - eps).clamp(0, 1).double(), (images + eps).clamp(0, 1).double()
    net, params = network(task, torch.float64), task.params.double()
    methods = ("crown-unstable", "crown-intersect", "ibp")
    unstable, intersected, intervals = (bounds.preactivations(net, *box, method=m, params=params)[1] for m in methods)
    refined = (intervals[0] < 0) & (intervals[1] > 0)
    assert refined.any()
    assert not refined.all()
    for side in (0, 1):
        expected = torch.where(refined, intersected[side], intervals[side])
        assert_near(unstable[side], expected, 1e-12)
        assert float((expected - intersected[side]).abs().max()) > 1e-3  # the methods do differ


def test_a_network_without_unstable_neurons_needs_no_pass() -> None:
    """A box that is a point: every neuron is stable, and all methods agree."""
    task = problem(IBP_TRAINED, 2, 1)
    images, labels = drawn_digits(3, seed=3)
    point = images.double()
    net, params = network(task, torch.float64), task.params.double()
    found = {m: bounds.margins(net, point, point, labels, method=m, params=params) for m in METHODS}
    assert_near(found["crown-unstable"], found["crown"], 1e-9)
