"""The oracles against each other: a reference that is wrong proves nothing. Nothing here needs gls_es' bounds."""

import numpy as np
import pytest
import torch

from tests.oracles import dense, exact
from tests.oracles.dag import Dag, run
from tests.oracles.digits import IBP_TRAINED, NATURALLY_TRAINED, TRAINED, drawn_digits
from tests.oracles.nets import BY_NAME, CNN3_SMALL, DENSE, RESIDUAL, WITH_RELU, ZOO, Case
from tests.oracles.problems import attained, points, problem, references, sampled, stacked

TINY = [c for c in [*DENSE, *RESIDUAL] if not c.affine]


@pytest.mark.parametrize("case", ZOO, ids=lambda c: c.name)
def test_hand_written_graph_is_the_module(case: Case) -> None:
    task = problem(case)
    x = points(task, 0, 0, 20)
    logits, _ = attained(task, 0, x)
    module = dense.member(task.module, None)
    dag = Dag()
    module.dag(dag)
    torch.testing.assert_close(run(dag.steps, x)[-1], logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", ZOO, ids=lambda c: c.name)
def test_probed_matrices_are_the_module(case: Case) -> None:
    task = problem(case)
    x = points(task, 1, 0, 5)[-3:]
    values: list[np.ndarray] = []
    for node in task.nodes(1):
        ins = [values[i] for i in node.inputs]
        if node.kind == "input":
            values.append(x.flatten(1).numpy())
        elif node.kind == "affine":
            values.append(ins[0] @ node.W.T + node.b)
        elif node.kind == "relu":
            values.append(np.maximum(ins[0], 0))
        else:
            values.append(sum(ins))
    np.testing.assert_allclose(values[-1], attained(task, 1, x)[0].numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", [*WITH_RELU, *TRAINED], ids=lambda c: c.name)
def test_zoo_has_unstable_and_stable_neurons(case: Case) -> None:
    """A zoo net whose ReLUs are all stable (or all unstable) would let mistakes pass."""
    _, pre, _ = stacked("crown", problem(case))
    lo, hi = (torch.cat([side.flatten() for side in sides]) for sides in zip(*pre, strict=True))
    unstable = (lo < 0) & (hi > 0)
    assert 0.05 < unstable.double().mean() < 0.95
    assert (unstable & (hi > -lo)).any()
    assert (unstable & (hi < -lo)).any()


@pytest.mark.parametrize("method", dense.METHODS)
@pytest.mark.parametrize("case", [*ZOO, *TRAINED], ids=lambda c: c.name)
def test_references_contain_sampled_values(case: Case, method: str) -> None:
    task = problem(case)
    for p, row in enumerate(references(method, case)):
        for i, result in enumerate(row):
            smallest, layer_ranges = sampled(task, p, i)
            guard = 1e-12 * (1 + float(smallest.abs().max()))
            assert (result.margins <= smallest.numpy() + guard).all()
            for (lo, hi), (z_min, z_max) in zip(result.preactivations, layer_ranges, strict=True):
                guard = 1e-12 * (1 + float(z_min.abs().max() + z_max.abs().max()))
                assert (lo <= z_min.numpy() + guard).all()
                assert (hi >= z_max.numpy() - guard).all()


@pytest.mark.parametrize("case", [*ZOO, *TRAINED], ids=lambda c: c.name)
def test_deepz_is_crown_same(case: Case) -> None:
    """The zonotope propagated forward and the equal slopes propagated backward are one relaxation."""
    forward, backward = (stacked(name, problem(case)) for name in ("deepz", "crown-same"))
    torch.testing.assert_close(forward[0], backward[0], rtol=1e-10, atol=1e-10)
    for a, b in zip(forward[1], backward[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def _small(case: Case) -> bool:
    """At most 8 unstable ReLUs, so that the cells can be visited one by one."""
    (row,) = references("crown", case, 1, 1)
    return sum(int(((lo < 0) & (hi > 0)).sum()) for lo, hi in row[0].preactivations) <= 8


@pytest.mark.parametrize("case", TINY, ids=lambda c: c.name)
def test_exact_minima_agree_and_bound_every_relaxation(case: Case) -> None:
    task = problem(case, 1, 1)
    nodes, label = task.nodes(0), int(task.labels[0])
    box = tuple(t[0].double().numpy().ravel() for t in (task.lower, task.upper))
    bounds = dense.backward_bounds(nodes, box, "adaptive")
    result = references("crown", case, 1, 1)[0][0]
    attacked = sampled(task, 0, 0)[0].numpy()
    C = dense.margin_matrix(int(np.prod(nodes[-1].shape)), label)
    for j, c in enumerate(C):
        minimum = exact.milp_minimum(nodes, box, bounds, c)
        guard = 1e-6 * (1 + abs(minimum))  # HiGHS' feasibility tolerance
        if j == 0 and _small(case):
            assert abs(exact.cell_minimum(nodes, box, bounds, c) - minimum) < guard
        triangle = exact.triangle_minimum(nodes, box, bounds, c)
        assert result.margins[j] <= triangle + guard
        assert triangle <= minimum + guard
        assert minimum <= attacked[j] + guard
    assert _small(case) or case.name != "mlp_two_classes"


def test_hand_computed_bounds_of_one_neuron() -> None:
    """logits (relu(x), 0), x in [-1, 2], label 0: by hand for every method."""
    nodes = [
        dense.Node("input", (), (1,)),
        dense.Node("relu", (0,), (1,)),
        dense.Node("affine", (1,), (2,), np.array([[1.0], [0.0]]), np.zeros(2)),
    ]
    lower, upper = torch.tensor([-1.0]), torch.tensor([2.0])
    # upper line 2/3 (x + 1); zonotope and affine form: relu(x) = 2/3 x + 1/3 ± 1/3, at least 2/3 * (-1) = -2/3
    expected = {
        "ibp": 0,
        "hbox": 0,
        "affine": -2 / 3,
        "deepz": -2 / 3,
        "crown-ibp": -1,
        "crown": -1,
        "crown-same": -2 / 3,
    }
    expected |= {"crown-zero": 0, "crown-one": -1, "deeppoly": -1, "crown-intersect": 0, "crown-unstable": 0}
    for method in dense.METHODS:
        assert dense.reference(method, nodes, lower, upper, 0).margins == pytest.approx(expected[method])
        worst = dense.reference(method, nodes, lower, upper, 1).margins
        assert worst == pytest.approx(-2.0)  # -relu(x) >= -2: the upper line and the interval agree at x = 2


def test_zoo_parameter_counts() -> None:
    counts = {c.name: sum(p.numel() for p in c.make().parameters()) for c in (CNN3_SMALL, BY_NAME["digits_random"])}
    assert counts == {"cnn3_small": 5170, "digits_random": 1258}


def test_trained_nets_are_trained() -> None:
    """High accuracy; intervals prove much for the one trained with them and nothing for the other."""
    images, labels = drawn_digits(200, seed=2)
    verified = {}
    for case in (IBP_TRAINED, NATURALLY_TRAINED):
        module = case.build()
        with torch.no_grad():
            assert (module(images).argmax(1) == labels).double().mean() > 0.9
        nodes = dense.dense_nodes(module, None, case.input_shape)
        box = (images - 0.1).clamp(0, 1), (images + 0.1).clamp(0, 1)
        results = [dense.reference("ibp", nodes, lo, hi, int(y)) for lo, hi, y in zip(*box, labels, strict=True)]
        verified[case.name] = np.mean([(r.margins > 0).all() for r in results])
    assert verified["digits_ibp_trained"] > 0.7
    assert verified["digits_naturally_trained"] < 0.1
