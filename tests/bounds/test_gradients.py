"""Gradients of margins and pre-activations with respect to the parameters, in float64."""

import pytest
import torch

import gls_es
from gls_es import bounds
from gls_es.fitness.losses import robust_cross_entropy
from tests.oracles.api import METHODS, network
from tests.oracles.digits import IBP_TRAINED
from tests.oracles.nets import BY_NAME, Case, boxes
from tests.oracles.problems import problem, stacked

NAMES = ("mlp", "consecutive_linear", "relu_last", "tied_weights", "batch_norm_1d", "conv_mixed", "conv_leftover")
NAMES += (
    "batch_norm_2d_before",
    "pool_overlapping",
    "normalize_by_hand",
    "resnet",
    "two_heads",
    "doubled",
    "structure",
)
CASES = [*(BY_NAME[n] for n in NAMES), IBP_TRAINED]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_directional_derivatives_match_finite_differences(case: Case, method: str) -> None:
    """Each member's loss depends on that member's parameters alone, with the derivative of central differences.

    The functions are smooth but for kinks (a neuron that turns stable) and flips of slopes. A step of 3e-6 along a
    unit direction meets none of them for these seeds; a larger one does on the trained net.
    """
    task = problem(case)
    net = network(task, torch.float64)
    generator = torch.Generator().manual_seed(3)
    box = task.lower.double(), task.upper.double()
    params = task.params.double().requires_grad_()

    def loss(params: torch.Tensor) -> torch.Tensor:
        margin = bounds.margins(net, *box, task.labels, method=method, params=params)
        layers = bounds.preactivations(net, *box, method=method, params=params)
        total = robust_cross_entropy(margin).mean(1)
        for k, (lo, hi) in enumerate(layers):
            total = total + 0.1 * (k + 1) * (hi.flatten(1).mean(1) - 0.5 * lo.flatten(1).mean(1))
        return total

    value = loss(params)
    (gradient,) = torch.autograd.grad(value.sum(), params)
    assert gradient.shape == params.shape
    step = 3e-6
    for _ in range(3):
        direction = torch.randn(params.shape, generator=generator, dtype=torch.float64)
        direction = direction / direction.norm(dim=1, keepdim=True)
        with torch.no_grad():
            difference = (loss(params + step * direction) - loss(params - step * direction)) / (2 * step)
        analytic = (gradient * direction).sum(1)
        scale = 1 + gradient.norm(dim=1) / params.shape[1] ** 0.5
        assert ((difference - analytic).abs() <= 1e-6 * scale).all(), (difference, analytic)


@pytest.mark.parametrize("method", METHODS)
def test_members_do_not_see_each_others_gradient(method: str) -> None:
    task = problem(BY_NAME["conv_mixed"], 3, 2)
    net = network(task, torch.float64)
    params = task.params.double().requires_grad_()
    result = bounds.margins(net, task.lower.double(), task.upper.double(), task.labels, method=method, params=params)
    (gradient,) = torch.autograd.grad(result[1].sum(), params)
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1] != 0).any()


def _gradient(net: gls_es.Network, method: str, params: torch.Tensor, box: tuple[torch.Tensor, ...]) -> torch.Tensor:
    labels = torch.zeros(len(box[0]), dtype=torch.int64)
    params = params.clone().requires_grad_()
    result = bounds.margins(net, *box, labels, method=method, params=params)
    assert result.isfinite().all()
    (gradient,) = torch.autograd.grad(robust_cross_entropy(result).sum(), params)
    return gradient


DEGENERATE = ("all weights zero", "first layer zero", "dead neurons", "saturated neurons", "kink", "huge weights")


NETS = [("mlp", 0.0), ("conv_mixed", 0.0), *((n, 0.1) for n in ("mlp", "conv_mixed", "resnet", "batch_norm_1d"))]


@pytest.mark.parametrize("what", DEGENERATE)
@pytest.mark.parametrize(("name", "eps"), [*NETS, ("digits_random", 0.1)])
@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("crown-zero", "crown-one")])
def test_gradients_stay_finite(method: str, name: str, what: str, eps: float) -> None:
    """Where lo = hi = 0, where no neuron is unstable, where every one is: finite bounds, finite gradients."""
    case = BY_NAME[name]
    module = case.build().double()
    linear = [m for m in module.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    with torch.no_grad():
        if what == "all weights zero":
            for p in module.parameters():
                p.zero_()
        elif what == "huge weights":
            for p in module.parameters():
                p *= 1e6
        else:
            if what in ("first layer zero", "kink"):
                linear[0].weight.zero_()
            if linear[0].bias is not None:
                linear[0].bias.fill_({"dead neurons": -100.0, "saturated neurons": 100.0}.get(what, 0.0))
            if what == "kink":
                linear[0].weight.view(-1)[0] = 1.0
    net = gls_es.Network(module, case.input_shape)
    box = tuple(t.double() for t in boxes(case, 2, eps=eps))
    if what == "kink":
        box = tuple(torch.zeros_like(t) for t in box) if eps == 0 else (-torch.ones_like(box[0]), 0 * box[0])
    gradient = _gradient(net, method, net.parameter_vector()[None], box)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_every_used_parameter(method: str) -> None:
    """A detached layer would train the others only."""
    task = problem(BY_NAME["mlp"])
    net = network(task, torch.float64)
    gradient = _gradient(net, method, net.parameter_vector()[None], (task.lower.double(), task.upper.double()))[0]
    start = 0
    for name, p in task.module.named_parameters():
        assert (gradient[start : start + p.numel()] != 0).any(), name
        start += p.numel()


def test_cases_are_away_from_flips() -> None:
    """The reference says how near a slope is to its flip; a finite difference across one would be meaningless."""
    for case in CASES:
        for method in ("crown", "crown-ibp"):
            assert stacked(method, problem(case))[2] > 1e-5
