"""Against the exact minimum on tiny nets, and equal to it where the relaxation has nothing to relax."""

import numpy as np
import pytest
import torch

import gls_es
from gls_es import bounds
from tests.oracles import dense, exact
from tests.oracles.api import METHODS, WITH_REFERENCE, assert_near, margins, network, preactivations
from tests.oracles.nets import AFFINE, BY_NAME, DENSE, RESIDUAL, ZOO, Case, boxes
from tests.oracles.problems import margins_of, problem

TINY = [c for c in [*DENSE, *RESIDUAL] if not c.affine and c.name not in ("resnet", "resnet_pre_activation")]
HIGHS = 1e-6  # relative feasibility tolerance of the LP solver
BACKWARD = [m for m in METHODS if m.startswith("crown") or m in ("deepz", "deeppoly")]


def _box(task, i: int) -> tuple[np.ndarray, np.ndarray]:
    return task.lower[i].double().numpy().ravel(), task.upper[i].double().numpy().ravel()


@pytest.mark.parametrize("case", TINY, ids=lambda c: c.name)
def test_no_bound_exceeds_the_exact_minimum(case: Case) -> None:
    task = problem(case)
    results = {method: margins(task, method).numpy() for method in METHODS}
    for p, i in ((0, 0), (1, 1)):
        nodes = task.nodes(p)
        big_m = dense.backward_bounds(nodes, _box(task, i), "adaptive")
        classes = int(np.prod(nodes[-1].shape))
        for j, c in enumerate(dense.margin_matrix(classes, int(task.labels[i]))):
            minimum = exact.milp_minimum(nodes, _box(task, i), big_m, c)
            for method, result in results.items():
                assert result[p, i, j] <= minimum + HIGHS * (1 + abs(minimum)), method


@pytest.mark.parametrize("case", TINY, ids=lambda c: c.name)
def test_crown_does_not_exceed_the_triangle_lp_of_its_own_bounds(case: Case) -> None:
    """One backward pass is one feasible point of the dual of that LP."""
    task = problem(case)
    nodes = task.nodes(0)
    relus = [i for i, node in enumerate(nodes) if node.kind == "relu"]
    for method in ("crown", "crown-ibp"):
        layers = [tuple(side[0, 0].double().numpy().ravel() for side in pair) for pair in preactivations(task, method)]
        own = dict(zip(relus, layers, strict=True))
        result = margins(task, method).numpy()
        classes = int(np.prod(nodes[-1].shape))
        for j, c in enumerate(dense.margin_matrix(classes, int(task.labels[0]))):
            triangle = exact.triangle_minimum(nodes, _box(task, 0), own, c)
            assert result[0, 0, j] <= triangle + HIGHS * (1 + abs(triangle))


def _affine_minimum(task) -> torch.Tensor:
    """(P, B, K-1): the minimum of each margin of an affine network, from its values at the basis vectors."""
    rows = []
    for p in range(len(task.params)):
        module = dense.member(task.module, task.params[p])
        row = []
        for i, label in enumerate(task.labels.tolist()):
            lo, hi = task.lower[i].double(), task.upper[i].double()
            zero = torch.zeros_like(lo)
            basis = torch.eye(lo.numel(), dtype=torch.float64).reshape(-1, *lo.shape)
            with torch.no_grad():
                b = margins_of(module(zero[None]), label)[0]
                A = margins_of(module(basis), label) - b
            row.append(b + torch.minimum(A * lo.reshape(-1, 1), A * hi.reshape(-1, 1)).sum(0))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("case", AFFINE, ids=lambda c: c.name)
@pytest.mark.parametrize("method", METHODS)
def test_affine_networks_are_bounded_exactly(case: Case, method: str) -> None:
    """A single Linear by every method, any chain of affine layers by every method that carries coefficients."""
    task = problem(case)
    result, minimum = margins(task, method), _affine_minimum(task)
    assert preactivations(task, method) == []
    if case.name == "affine_single" or method != "ibp":
        assert_near(result, minimum, 1e-12)
    else:
        assert (result < minimum - 1e-3).all()  # intervals, layer by layer, lose the correlations


@pytest.mark.parametrize("method", METHODS)
def test_all_neurons_active_is_affine(method: str) -> None:
    """Large positive biases: every ReLU is the identity, and backward bounds are exact."""
    task = problem(BY_NAME["mlp"], 1, 2)
    module = dense.member(task.module, None)
    with torch.no_grad():
        module.body[0].bias += 50
        module.body[2].bias += 500
    net = gls_es.Network(module, task.case.input_shape)
    result = bounds.margins(net, task.lower.double(), task.upper.double(), task.labels, method=method)
    lo, hi = task.lower.double(), task.upper.double()
    first, second, last = (module.body[k] for k in (0, 2, 4))
    for i, label in enumerate(task.labels.tolist()):
        others = [j for j in range(4) if j != label]
        C = last.weight[label] - last.weight[others]
        d = last.bias[label] - last.bias[others]
        A = C @ second.weight @ first.weight
        d = d + C @ second.bias + C @ second.weight @ first.bias
        minimum = d + A.clamp(min=0) @ lo[i] + A.clamp(max=0) @ hi[i]
        if method == "ibp":
            assert (result[0, i] <= minimum + 1e-9).all()
        else:
            assert_near(result[0, i].detach(), minimum.detach(), 1e-12)


@pytest.mark.parametrize("case", ZOO, ids=lambda c: c.name)
@pytest.mark.parametrize("method", METHODS)
def test_a_point_is_bounded_by_its_own_logits(case: Case, method: str) -> None:
    """ε = 0: the margins of the network at the point, the pre-activations it has there."""
    task = problem(case)
    x, _ = boxes(case, 2, seed=9, eps=0.0)
    x = x.double()
    params = task.params.double()
    net = network(task, torch.float64)
    result = bounds.margins(net, x, x, task.labels, method=method, params=params)
    layers = bounds.preactivations(net, x, x, method=method, params=params)
    for p in range(len(params)):
        module = dense.member(task.module, task.params[p])
        with torch.no_grad():
            logits = module(x)
        for i, label in enumerate(task.labels.tolist()):
            assert_near(result[p, i].detach(), margins_of(logits[i], label), 1e-10)
    for lo, hi in layers:
        assert_near(lo.detach(), hi.detach(), 1e-10)


@pytest.mark.parametrize("method", [m for m in WITH_REFERENCE if m in BACKWARD])
def test_ties_take_the_zero_slope(method: str) -> None:
    """hi = -lo exactly: the adaptive lower slope is 0, so relu(x) on [-1, 1] is bounded by 0, not by -1."""
    module = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU(), torch.nn.Linear(1, 2)).double()
    with torch.no_grad():
        for p, value in zip(module.parameters(), ([[1.0]], [0.0], [[1.0], [0.0]], [0.0, 0.0]), strict=True):
            p.copy_(torch.tensor(value))
    net = gls_es.Network(module, (1,))
    lower = torch.tensor([[-1.0]]).double()
    result = bounds.margins(net, lower, -lower, torch.tensor([0]), method=method)
    expected = {"crown-same": -0.5, "deepz": -0.5, "crown-one": -1.0}.get(method, 0.0)
    assert result.item() == pytest.approx(expected, abs=1e-12)
