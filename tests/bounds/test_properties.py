"""What must hold between calls: populations, batches, boxes, methods.

Not asserted, because it is false: that a smaller box tightens CROWN, or that tighter intermediate bounds do. Both can
flip an adaptive slope.
"""

import copy
import pickle

import pytest
import torch

from gls_es import bounds
from tests.oracles import dense
from tests.oracles.api import METHODS, assert_near, margins, network, preactivations
from tests.oracles.digits import TRAINED
from tests.oracles.nets import BY_NAME, WITH_RELU, ZOO, Case, boxes
from tests.oracles.problems import Problem, problem

SEVERAL = [BY_NAME[n] for n in ("mlp", "conv_mixed", "conv_leftover", "batch_norm_2d", "resnet", "two_heads")]
SEVERAL += [BY_NAME["affine_chain"], *TRAINED]
EXACTLY = 1e-12


def call(task: Problem, method: str, members: slice = slice(None), images: slice = slice(None)) -> list[torch.Tensor]:
    """Margins and pre-activation bounds of a part of the population on a part of the batch."""
    net = network(task, torch.float64)
    lower, upper, params = task.lower[images].double(), task.upper[images].double(), task.params[members].double()
    with torch.no_grad():
        result = bounds.margins(net, lower, upper, task.labels[images], method=method, params=params)
        layers = bounds.preactivations(net, lower, upper, method=method, params=params)
    return [result, *(side for pair in layers for side in pair)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", SEVERAL, ids=lambda c: c.name)
def test_population_is_a_loop_over_members(case: Case, method: str) -> None:
    task = problem(case, 3, 3)
    together = call(task, method)
    for p in range(3):
        for whole, one in zip(together, call(task, method, slice(p, p + 1)), strict=True):
            assert_near(whole[p : p + 1], one, EXACTLY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", SEVERAL, ids=lambda c: c.name)
def test_batch_is_a_loop_over_images(case: Case, method: str) -> None:
    """No value depends on who else is in the batch."""
    task = problem(case, 3, 3)
    together = call(task, method)
    for i in range(3):
        for whole, one in zip(together, call(task, method, images=slice(i, i + 1)), strict=True):
            assert_near(whole[:, i : i + 1], one, EXACTLY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", SEVERAL, ids=lambda c: c.name)
def test_no_params_means_the_modules_own_weights(case: Case, method: str) -> None:
    task = problem(case)
    net = network(task, torch.float64)
    box = task.lower.double(), task.upper.double()
    own = bounds.margins(net, *box, task.labels, method=method)
    given = bounds.margins(net, *box, task.labels, method=method, params=net.parameter_vector()[None])
    assert own.shape[0] == 1
    torch.testing.assert_close(own, given, rtol=0, atol=0)
    layers = bounds.preactivations(net, *box, method=method)
    assert all(lo.shape[0] == hi.shape[0] == 1 for lo, hi in layers)


@pytest.mark.parametrize("case", [*ZOO, *TRAINED], ids=lambda c: c.name)
def test_intervals_widen_with_the_box(case: Case) -> None:
    task = problem(case)
    net, params = network(task, torch.float64), task.params.double()
    previous = None
    for eps in (0.0, 0.01, 0.05, 0.1, 0.3, 1.0):
        lower, upper = (t.double() for t in boxes(case, 2, eps=eps))
        with torch.no_grad():
            result = bounds.margins(net, lower, upper, task.labels, method="ibp", params=params)
            layers = bounds.preactivations(net, lower, upper, method="ibp", params=params)
        if previous is not None:
            assert (result <= previous[0] + EXACTLY * (1 + result.abs())).all()
            for (lo, hi), (l_before, u_before) in zip(layers, previous[1], strict=True):
                assert (lo <= l_before + EXACTLY * (1 + lo.abs())).all()
                assert (hi >= u_before - EXACTLY * (1 + hi.abs())).all()
        previous = result, layers


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", WITH_RELU, ids=lambda c: c.name)
def test_pre_activations_are_ordered(case: Case, method: str) -> None:
    for lo, hi in preactivations(problem(case), method):
        assert (lo <= hi + EXACTLY * (1 + hi.abs())).all()


def _first_relu_after_one_affine_layer(case: Case) -> bool:
    nodes = problem(case).nodes(0)
    node = nodes[next(i for i, n in enumerate(nodes) if n.kind == "relu")]
    before = nodes[node.inputs[0]]
    return before.kind == "affine" and nodes[before.inputs[0]].kind == "input"


@pytest.mark.parametrize("case", [c for c in WITH_RELU if _first_relu_after_one_affine_layer(c)], ids=lambda c: c.name)
def test_first_affine_layer_is_the_same_for_every_method(case: Case) -> None:
    task = problem(case)
    expected = preactivations(task, "ibp")[0]
    for method in METHODS:
        for side, reference in zip(preactivations(task, method)[0], expected, strict=True):
            assert_near(side, reference, EXACTLY)


@pytest.mark.parametrize("case", [*ZOO, *TRAINED], ids=lambda c: c.name)
def test_deeppoly_is_another_name_of_crown(case: Case) -> None:
    task = problem(case)
    torch.testing.assert_close(margins(task, "deeppoly"), margins(task, "crown"), rtol=0, atol=0)


@pytest.mark.parametrize("case", [*ZOO, *TRAINED] if "deepz" in METHODS else [], ids=lambda c: c.name)
def test_deepz_is_crown_with_equal_slopes(case: Case) -> None:
    task = problem(case)
    assert_near(margins(task, "deepz"), margins(task, "crown-same"), 1e-11)
    for one, other in zip(preactivations(task, "deepz"), preactivations(task, "crown-same"), strict=True):
        for a, b in zip(one, other, strict=True):
            assert_near(a, b, 1e-11)


@pytest.mark.parametrize("case", [*ZOO, *TRAINED] if "best" in METHODS else [], ids=lambda c: c.name)
def test_best_is_never_below_what_it_is_the_best_of(case: Case) -> None:
    task = problem(case)
    best = margins(task, "best")
    for method in {"ibp", "crown-ibp", "crown", "crown-zero"} & set(METHODS):
        assert (best >= margins(task, method) - EXACTLY * (1 + best.abs())).all(), method


@pytest.mark.parametrize("method", METHODS)
def test_a_positive_scale_of_the_logits_scales_the_margins(method: str) -> None:
    task = problem(BY_NAME["mlp"])
    scaled = copy.deepcopy(task.module)
    with torch.no_grad():
        scaled.body[4].weight *= 4
        scaled.body[4].bias *= 4
    other = Problem(task.case, scaled, task.params[:1], task.lower, task.upper, task.labels)
    box = task.lower.double(), task.upper.double()
    plain = bounds.margins(network(task, torch.float64), *box, task.labels, method=method)
    large = bounds.margins(network(other, torch.float64), *box, task.labels, method=method)
    torch.testing.assert_close(4 * plain, large, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_margins_follow_the_order_of_the_other_classes(method: str) -> None:
    """For every label: row j is the j-th other class ascending, on a point where the margins are known."""
    task = problem(BY_NAME["mlp"])
    net = network(task, torch.float64)
    x = task.lower[:1].double().expand(4, -1)
    result = bounds.margins(net, x, x, torch.arange(4), method=method)[0].detach()
    with torch.no_grad():
        logits = dense.member(task.module, None)(x)[0]
    for label in range(4):
        others = [j for j in range(4) if j != label]
        torch.testing.assert_close(result[label], logits[label] - logits[others], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_copies_and_pickles_of_a_network_give_the_same_bounds(method: str) -> None:
    """EvoTorch clones problems and sends them to actors."""
    task = problem(BY_NAME["resnet"])
    net = network(task, torch.float64)
    box = task.lower.double(), task.upper.double()
    expected = bounds.margins(net, *box, task.labels, method=method)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        torch.testing.assert_close(bounds.margins(other, *box, task.labels, method=method), expected, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_arguments_are_left_alone_and_calls_repeat(method: str) -> None:
    task = problem(BY_NAME["batch_norm_2d"])
    net = network(task, torch.float64)
    arguments = [task.lower.double(), task.upper.double(), task.labels.clone(), task.params.double()]
    before = [a.clone() for a in arguments]
    own = net.parameter_vector().clone()
    first = bounds.margins(net, *arguments[:3], method=method, params=arguments[3])
    second = bounds.margins(net, *arguments[:3], method=method, params=arguments[3])
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    for now, then in zip([*arguments, net.parameter_vector()], [*before, own], strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0)
