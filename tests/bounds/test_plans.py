"""Chunk sizes change memory and time, never values: members together or apart, few images, few rows of coefficients."""

import pytest
import torch

from gls_es import bounds
from gls_es.bounds.plan import Plan
from gls_es.fitness.losses import robust_cross_entropy
from tests.oracles.api import FLOATS, METHODS, TOLERANCE, WITH_REFERENCE, assert_near, network
from tests.oracles.digits import TRAINED
from tests.oracles.nets import BY_NAME, ZOO, Case
from tests.oracles.problems import Problem, problem, stacked

# the three fixed slopes run through the same passes as adaptive ones
DIFFERENT = [m for m in METHODS if m not in ("crown-same", "crown-zero", "crown-one")]

PLANS = {
    "everything at once": Plan(bytes=1 << 40, members=64),
    "one row at a time": Plan(bytes=1, members=1),
    "one row of all members": Plan(bytes=1, members=64),
    "uneven": Plan(bytes=3000, members=2),
}


def call(task: Problem, method: str, plan: Plan, dtype: torch.dtype) -> list[torch.Tensor]:
    """Margins and flattened pre-activation bounds under a plan."""
    net, params = network(task, dtype), task.params.to(dtype)
    box = task.lower.to(dtype), task.upper.to(dtype)
    with torch.no_grad():
        margins = bounds.margins(net, *box, task.labels, method=method, params=params, plan=plan)
        layers = bounds.preactivations(net, *box, method=method, params=params, plan=plan)
    return [margins, *(side.flatten(2) for pair in layers for side in pair)]


# the plan that has every kind of rest on every network, the others in turn
PAIRS = [
    pytest.param(case, PLANS[name], id=f"{case.name}-{name}")
    for number, case in enumerate([*ZOO, *TRAINED])
    for name in ("uneven", [*PLANS][number % 3])
]


@pytest.mark.parametrize("method", [m for m in WITH_REFERENCE if m in DIFFERENT])
@pytest.mark.parametrize(("case", "plan"), PAIRS)
def test_every_plan_gives_the_reference_bounds(case: Case, plan: Plan, method: str) -> None:
    task = problem(case)
    margins, layers, _ = stacked(method, task)
    expected = [margins, *(side for pair in layers for side in pair)]
    for actual, wanted in zip(call(task, method, plan, torch.float64), expected, strict=True):
        assert_near(actual, wanted, TOLERANCE[torch.float64])


@pytest.mark.parametrize("method", DIFFERENT)
@pytest.mark.parametrize("name", ["mlp", "conv_mixed", "conv_leftover", "resnet", "pool_global"])
def test_every_plan_gives_the_same_bounds_in_float32(name: str, method: str) -> None:
    task = problem(BY_NAME[name], 3, 3)
    first, *others = (call(task, method, plan, FLOATS[1]) for plan in PLANS.values())
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert_near(a, b, 1e-5)


@pytest.mark.parametrize("method", DIFFERENT)
@pytest.mark.parametrize("name", ["mlp", "conv_mixed", "batch_norm_2d", "resnet", "two_heads"])
def test_every_plan_gives_the_same_gradient(name: str, method: str) -> None:
    task = problem(BY_NAME[name], 3, 3)
    net, box = network(task, torch.float64), (task.lower.double(), task.upper.double())
    gradients = []
    for plan in PLANS.values():
        params = task.params.double().requires_grad_()
        margins = bounds.margins(net, *box, task.labels, method=method, params=params, plan=plan)
        gradients += torch.autograd.grad(robust_cross_entropy(margins).sum(), params)
    for gradient in gradients[1:]:
        assert_near(gradient, gradients[0], 1e-10)
