"""Optimised slopes between CROWN and the triangle LP of the same pre-activation bounds, and below the exact minimum."""

from functools import cache

import numpy as np
import pytest
import torch
from certification_nets import QUICK, grid_of_ball, numpy_least_margin, random_images, relu_net
from torch import Tensor

import gls_es
from gls_es.certification import certify
from gls_es.certification.alpha import alpha_margins, climbed, open_margins
from gls_es.certification.ascent import Ascent, ascend, with_best_start
from gls_es.certification.dual import Balls, Goals
from gls_es.certification.layers import tighter
from tests.oracles import dense, exact
from tests.oracles.nets import BY_NAME
from tests.oracles.problems import Problem, attained, points, problem

HIGHS = 1e-6  # relative feasibility tolerance of the LP solver
LONG = Ascent(steps=250, decay=0.99)
CASES = (
    "mlp_deep", "relu_first", "batch_norm_last", "residual_dense", "input_skip", "branch_thrice", "doubled",
    "resnet_pre_activation",
)  # fmt: skip


@cache
def _balls(name: str, dtype: torch.dtype = torch.float64, execution: str = "real") -> tuple[Problem, Balls]:
    task = problem(BY_NAME[name])
    net = gls_es.Network(dense.member(task.module, task.params[0]).double(), task.case.input_shape)
    lower, upper = task.lower.double(), task.upper.double()
    return task, Balls.around(net, lower, upper, task.labels, execution=execution, dtype=dtype)


def _goals(balls: Balls, images: int) -> Goals:
    return balls.goals(*open_margins(torch.full((images, balls.rows.shape[1]), -torch.inf), most=10**6)[0])


def _box(task: Problem, i: int) -> tuple[np.ndarray, np.ndarray]:
    return task.lower[i].double().numpy().ravel(), task.upper[i].double().numpy().ravel()


def _oracle(task: Problem, balls: Balls, image: int, find) -> Tensor:
    """``find`` for each margin of an image, given the balls' own pre-activation bounds."""
    nodes = task.nodes(0)
    relus = [i for i, node in enumerate(nodes) if node.kind == "relu"]
    layers = [tuple(side[0, image].numpy().ravel() for side in balls.search.bounds[r]) for r in balls.search.relus]
    bounds = dict(zip(relus, layers, strict=True))
    classes = balls.rows.shape[2]
    rows = dense.margin_matrix(classes, int(task.labels[image]))
    return torch.tensor([find(nodes, _box(task, image), bounds, c) for c in rows])


@pytest.mark.parametrize("name", CASES)
def test_the_ascent_climbs_from_crown_to_the_triangle_lp(name: str) -> None:
    task, balls = _balls(name)
    goals = _goals(balls, 2)
    start = balls.lower_bounds(goals)
    best, bounds = ascend(balls.lower_bounds, with_best_start(balls, balls.lower_bounds, goals), LONG)
    adaptive = {relu: (low + up > 0).double()[0, goals.image] for relu, (low, up) in balls.search.bounds.items()}
    plain = balls.lower_bounds(Goals(goals.image, goals.column, goals.signs, adaptive, goals.multipliers))
    assert (bounds >= torch.maximum(start, plain)).all()
    torch.testing.assert_close(balls.lower_bounds(best), bounds, rtol=1e-12, atol=1e-12)  # kernels sum in another order
    triangle = torch.cat([_oracle(task, balls, i, exact.triangle_minimum) for i in range(2)])
    scale = 1 + triangle.abs()
    assert (bounds <= triangle + HIGHS * scale).all()
    assert (bounds >= triangle - 1e-3 * scale).all()
    assert (bounds > plain + 1e-3).any()  # there was something to gain


@pytest.mark.parametrize("name", CASES[:4])
@pytest.mark.parametrize("execution", ["float32", "real"])
def test_proven_bounds_lie_below_the_unguarded_and_the_exact_ones(name: str, execution: str) -> None:
    task, balls = _balls(name, torch.float32, execution)
    goals = climbed(balls, _goals(balls, 1), Ascent(steps=30))
    proven = balls.proven_bounds(goals)
    assert proven.dtype == torch.float64
    unguarded = balls.lower_bounds(goals).double()
    assert ((proven - unguarded).abs() <= 1e-4 * (1 + unguarded.abs())).all()
    _, exactly = _balls(name)
    assert (proven < exactly.lower_bounds(goals)).all()
    minimum = _oracle(task, exactly, 0, exact.milp_minimum)
    assert (proven <= minimum + HIGHS * (1 + minimum.abs())).all()


def test_slopes_outside_the_unit_interval_do_not_make_a_bound() -> None:
    """A line above the ReLU would not be a bound; slopes are cut off before they are used."""
    _, balls = _balls("mlp_deep")
    goals = _goals(balls, 2)
    for factor, ends in ((9.0, 1.0), (-9.0, 0.0)):
        wild = {relu: torch.full_like(v, factor) for relu, v in goals.slopes.items()}
        tame = {relu: torch.full_like(v, ends) for relu, v in goals.slopes.items()}
        wild, tame = (Goals(goals.image, goals.column, goals.signs, s, goals.multipliers) for s in (wild, tame))
        assert torch.equal(balls.proven_bounds(wild), balls.proven_bounds(tame))


def test_only_open_margins_are_touched_and_none_falls() -> None:
    _, balls = _balls("residual_dense", torch.float32, "float32")
    lower = balls.proven_bounds(_goals(balls, len(balls.rows))).reshape(len(balls.rows), -1)
    lower[0, 0], lower[1, 1] = 7.0, torch.inf
    raised = alpha_margins(balls, lower, budget=2**20)
    assert raised[0, 0] == 7.0
    assert (raised[lower.isfinite()] >= lower[lower.isfinite()]).all()
    tiny = alpha_margins(balls, lower, budget=1)  # one goal at a time
    assert torch.allclose(raised, tiny, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mlp_deep", "residual_dense", "resnet_pre_activation"])
def test_tighter_layers_still_hold_and_raise_the_margins(name: str) -> None:
    task, balls = _balls(name)
    tight = tighter(balls, budget=2**24)
    layers = [z for i in range(2) for z in attained(task, 0, points(task, 0, i))[1]]
    gained = 0.0
    for place, relu in enumerate(balls.search.relus):
        (low, up), (old_low, old_up) = tight.proof.bounds[relu], balls.proof.bounds[relu]
        assert ((low >= old_low) & (up <= old_up)).all()
        gained += float((low - old_low).sum() + (old_up - up).sum())
        for image in range(2):
            z = layers[image * len(balls.search.relus) + place]
            assert (z >= low[0, image].flatten()).all()
            assert (z <= up[0, image].flatten()).all()
    assert gained > 1e-3
    before, after = (
        ascend(b.lower_bounds, with_best_start(b, b.lower_bounds, _goals(b, 2)), LONG)[1] for b in (balls, tight)
    )
    assert (after >= before - 1e-3 * (1 + before.abs())).all()
    minimum = torch.cat([_oracle(task, tight, i, exact.milp_minimum) for i in range(2)])
    assert (after <= minimum + HIGHS * (1 + minimum.abs())).all()


@pytest.mark.parametrize("last", ["inside", "output"])
@pytest.mark.parametrize("kinds", ["ReLU Hardtanh", "GELU GELU", "Tanh PReLU"])
def test_activations_of_activations_get_tighter_bounds_that_hold(kinds: str, last: str) -> None:
    """Nothing affine lies between them, so a backward pass begins at an activation."""
    torch.manual_seed(0)
    one, two = (getattr(torch.nn, name) for name in kinds.split())
    behind = [torch.nn.Linear(3, 2)] if last == "inside" else []
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), one(), two(), *behind).eval()
    with torch.no_grad():
        net[0].weight.mul_(4.0)
    x, eps = torch.full((1, 2), 0.5), 0.2
    lower, upper = (x - eps).double(), (x + eps).double()
    traced = gls_es.Network(net, (2,))
    balls = Balls.around(traced, lower, upper, torch.zeros(1, dtype=torch.int64), execution="float32")
    low, up = tighter(balls, budget=2**24).proof.bounds[balls.search.relus[1]]
    line = torch.linspace(0.3001, 0.6999, 21)
    with torch.no_grad():
        seen = net[:2](torch.cartesian_prod(line, line))
    assert (seen >= low[0]).all()
    assert (seen <= up[0]).all()
    assert ((balls.proof.bounds[balls.search.relus[1]][0] <= low) & (low <= up)).all()
    label = net(x).argmax(1)
    (verdict,) = certify(net, x, label, eps, stages=("alpha-layers",)).verdicts
    with torch.no_grad():
        kept = net(torch.cartesian_prod(line, line)).argmax(1) == label
    assert verdict.verdict == "unknown" or kept.all()


def test_the_stage_certifies_what_crown_leaves_open() -> None:
    gained = 0
    for seed in range(4):
        net = relu_net(seed, (2, 20, 20, 20, 3))
        images = random_images(seed, 60, 2)
        labels = net(images).argmax(dim=1)
        report = certify(net, images, labels, 0.05, stages=("attack", "best", "alpha"), attack=QUICK)
        for x, y, verdict in zip(images, labels.tolist(), report.verdicts, strict=True):
            if verdict.stage == "alpha":
                gained += 1
                assert 0 < verdict.margin <= numpy_least_margin(net, grid_of_ball(x, 0.05, steps=61), y).min()
    assert gained > 0
