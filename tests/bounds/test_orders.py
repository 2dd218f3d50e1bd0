"""Which method is never below which, in every layer and every margin, up to rounding; and which relations are false.

Each line of HOLDS is a theorem. The zero slope's: every neuron's two lines reach exactly the ends of [max(l, 0), u] on
the box, and the upper one is nowhere below the lower one where the pass can be, so what a backward pass adds up jointly
is never looser than what intervals (or fresh intervals, hbox's) add up one by one.

Random nets hide what is false: there intersections with intervals hardly change anything. Trained ones show it.
"""

from functools import cache

import pytest
import torch
from torch import Tensor

from gls_es import bounds
from tests.oracles.api import margins, network, preactivations
from tests.oracles.digits import IBP_TRAINED, NATURALLY_TRAINED, TRAINED, drawn_digits
from tests.oracles.nets import ZOO, Case
from tests.oracles.problems import problem
from tests.oracles.random_nets import random_case

HOLDS = [
    ("ibp", "hbox"),
    ("ibp", "crown-intersect"),
    ("ibp", "crown-unstable"),
    ("ibp", "crown-zero"),
    ("hbox", "crown-zero"),
    ("deepz", "crown-same"),
    ("crown-same", "deepz"),
    *((below, "best") for below in ("ibp", "hbox", "crown-ibp", "crown", "crown-zero", "crown-intersect")),
]
FALSE = [
    (IBP_TRAINED, "ibp", "crown"),
    (IBP_TRAINED, "ibp", "crown-ibp"),
    (IBP_TRAINED, "ibp", "deepz"),
    (IBP_TRAINED, "crown-ibp", "crown"),
    (IBP_TRAINED, "crown", "crown-ibp"),
    (IBP_TRAINED, "crown", "crown-intersect"),
    (IBP_TRAINED, "crown", "crown-unstable"),
    (IBP_TRAINED, "crown", "crown-zero"),
    (NATURALLY_TRAINED, "crown-zero", "crown"),
    (NATURALLY_TRAINED, "deepz", "crown"),
    (NATURALLY_TRAINED, "deepz", "best"),
]
METHODS = sorted({method for pair in HOLDS for method in pair} | {method for _, *pair in FALSE for method in pair})
EPS = (0.02, 0.1, 0.2, 0.4)
ROUNDING = 1e-11

Result = tuple[Tensor, list[tuple[Tensor, Tensor]]]


@cache
def on_digits(case: Case, method: str, eps: float) -> Result:
    """Margins and pre-activation bounds of three members on twelve drawn digits."""
    task = problem(case, 3, 1)
    images, labels = drawn_digits(12, seed=2)
    box = (images - eps).clamp(0, 1).double(), (images + eps).clamp(0, 1).double()
    net, params = network(task, torch.float64), task.params.double()
    with torch.no_grad():
        result = bounds.margins(net, *box, labels, method=method, params=params)
        return result, bounds.preactivations(net, *box, method=method, params=params)


def excess(one: Tensor, other: Tensor) -> float:
    """How far ``one`` lies above ``other`` somewhere, relative to the largest value."""
    return float((one - other).max() / (1 + other.abs().max())) if one.numel() else 0.0


def check(below: Result, above: Result) -> None:
    assert excess(below[0], above[0]) <= ROUNDING
    for (l_below, u_below), (l_above, u_above) in zip(below[1], above[1], strict=True):
        assert excess(l_below, l_above) <= ROUNDING
        assert excess(u_above, u_below) <= ROUNDING


@pytest.mark.parametrize(("below", "above"), HOLDS)
@pytest.mark.parametrize("case", ZOO, ids=lambda c: c.name)
def test_one_method_is_never_below_another(case: Case, below: str, above: str) -> None:
    task = problem(case)
    check(*((margins(task, method), preactivations(task, method)) for method in (below, above)))


@pytest.mark.parametrize(("below", "above"), HOLDS)
@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("case", TRAINED, ids=lambda c: c.name)
def test_one_method_is_never_below_another_on_trained_nets(case: Case, eps: float, below: str, above: str) -> None:
    check(on_digits(case, below, eps), on_digits(case, above, eps))


@pytest.mark.parametrize("seed", range(200, 212))
def test_one_method_is_never_below_another_on_random_networks(seed: int) -> None:
    task = problem(random_case(seed), 2, 1)
    results = {method: (margins(task, method), preactivations(task, method)) for method in METHODS}
    for below, above in HOLDS:
        check(results[below], results[above])


@pytest.mark.parametrize(("case", "below", "above"), FALSE, ids=lambda v: getattr(v, "name", v))
def test_relations_that_are_false_have_counterexamples(case: Case, below: str, above: str) -> None:
    """Nobody should lean on these; if one of them ceased to fail, ``best`` could do with less."""
    worst = max(excess(on_digits(case, below, eps)[0], on_digits(case, above, eps)[0]) for eps in EPS)
    assert worst > 1e-4


def test_every_part_of_best_is_needed_somewhere() -> None:
    """On nets trained with intervals and without, each method that best contains is the only one to reach a margin."""
    parts = ("crown-ibp", "crown", "crown-zero", "crown-intersect")
    needed = set()
    for case in TRAINED:
        for eps in EPS:
            results = {method: on_digits(case, method, eps)[0] for method in parts}
            for method, result in results.items():
                others = torch.stack([r for name, r in results.items() if name != method]).amax(0)
                if bool((result > others + 1e-6 * (1 + others.abs())).any()):
                    needed.add(method)
    assert needed == set(parts)
