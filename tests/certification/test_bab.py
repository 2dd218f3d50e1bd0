"""Branch and bound against the exact answer, alone and within its limits."""

from collections import Counter

import numpy as np
import pytest
import torch
from certification_nets import in_exact_ball, random_images, relu_net
from small_nets import Task, small_task
from torch import Tensor, nn

import gls_es
from gls_es.certification import AttackOptions, certify, find_counterexamples, leaves
from gls_es.certification.ascent import Ascent, ascend
from gls_es.certification.ball import inner_box
from gls_es.certification.branching import children, choose, unsplit
from gls_es.certification.dual import Balls, Goals
from gls_es.certification.rounding import outward_ball

HIGHS = 1e-6  # relative feasibility tolerance of the LP solver


def check(task: Task, seen: Counter, **options: object) -> None:
    """Every verdict of a task is the exact one, its bound at most the exact minimum, its counterexample one."""
    report = certify(task.net, task.images, task.labels, task.eps, max_domains=3000, **options)
    for image, verdict in enumerate(report.verdicts):
        if task.unstable(image) > 16:
            continue
        minimum = min(task.minima(image))
        scale = HIGHS * (1 + abs(minimum))
        if abs(minimum) <= 10 * scale:
            continue  # nearer to a tie than the oracle can tell
        seen[verdict.verdict, verdict.stage] += 1
        assert verdict.verdict == ("certified" if minimum > 0 else "falsified")
        assert verdict.reason is None
        if verdict.verdict == "certified":
            assert 0 < verdict.margin <= minimum + scale
        else:
            point = verdict.counterexample
            assert in_exact_ball(point, task.images[image], task.eps)
            assert task.net(point[None]).argmax() != task.labels[image]


def test_alone_it_decides_small_random_networks_exactly() -> None:
    seen: Counter = Counter()
    for seed in range(20):
        check(small_task(seed), seen, stages=("bab",))
    assert min(seen["certified", "bab"], seen["falsified", "bab"]) >= 5


@pytest.mark.slow
def test_the_whole_cascade_decides_small_random_networks_exactly() -> None:
    seen: Counter = Counter()
    for seed in range(100, 220):
        check(small_task(seed), seen, attack=AttackOptions(steps=4, restarts=1), seed=seed)
    assert sum(seen.values()) >= 160
    assert {verdict for verdict, _ in seen} == {"certified", "falsified"}


def _balls(task: Task, dtype: torch.dtype = torch.float64) -> Balls:
    lower, upper = outward_ball(task.images, task.eps)
    return Balls.around(
        gls_es.Network(task.net, (task.net.pixels,)), lower, upper, task.labels, execution="float32", dtype=dtype
    )


def _points(task: Task, image: int, count: int = 4000) -> Tensor:
    low, up = (torch.from_numpy(side) for side in task.box(image))
    return low + (up - low) * torch.rand(count, len(low), generator=torch.Generator().manual_seed(1)).double()


def _inputs(net: nn.Module, points: Tensor) -> list[Tensor]:
    """Inputs of the ReLUs of a network of ``relu_net`` kind, layer after layer."""
    found, value = [], points
    for layer in net:
        if isinstance(layer, nn.ReLU):
            found.append(value)
        value = layer(value)
    return [*found, value]


def test_bounds_of_split_parts_hold_on_the_points_of_the_part() -> None:
    """Sampled: a part's guarded bound, for any multipliers, is below every goal's value on the part's points."""
    checked = 0
    for seed in range(3):
        net = relu_net(seed, (2, 12, 12, 3))
        images = random_images(seed, 1, 2)
        labels = net(images).argmax(dim=1)
        lower, upper = outward_ball(images, 0.3)
        balls = Balls.around(gls_es.Network(net, (2,)), lower, upper, labels, execution="float32")
        exactly = nn.Sequential(*net).double()
        points = lower + (upper - lower) * torch.rand(3000, 2, generator=torch.Generator().manual_seed(seed)).double()
        *layers, logits = _inputs(exactly, points)
        goals = balls.goals(torch.zeros(2, dtype=torch.int64), torch.arange(2))
        for depth in range(4):
            choice = choose(balls, goals, most=64)
            goals = children(goals, choice.neuron)
            goals, unguarded = ascend(balls.lower_bounds, goals, Ascent(steps=3 * depth, multiplier_rate=0.3))
            proven = balls.proven_bounds(goals)
            assert torch.allclose(proven.float(), unguarded, rtol=1e-3, atol=1e-3)
            for place in range(len(goals)):
                one = goals.at(torch.tensor([place]))
                inside = torch.ones(len(points), dtype=torch.bool)
                for sign, z in zip(one.signs.values(), layers, strict=True):
                    inside &= (sign.double() * z >= 0).all(dim=1)
                row = -balls.rows[0, int(one.column)]
                values = logits[inside] @ row
                checked += len(values)
                assert (values >= proven[place]).all()
    assert checked > 10_000


def test_an_empty_part_is_closed_by_its_multipliers() -> None:
    """z and z + 1 cannot both be on the wrong sides: multipliers raise the bound without limit."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        net[0].bias.copy_(torch.tensor([-0.4, -0.6]))
        net[2].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        net[2].bias.copy_(torch.tensor([-0.5, 0.0]))
    x = torch.tensor([[0.5]])
    lower, upper = outward_ball(x, 0.5)
    balls = Balls.around(gls_es.Network(net, (1,)), lower, upper, torch.tensor([0]), execution="float32")
    goals = balls.goals(torch.tensor([0]), torch.tensor([0]))
    (relu,) = goals.signs
    for signs, empty in (([-1, 1], True), ([1, -1], False), ([1, 1], False), ([-1, -1], False)):
        part = Goals(
            goals.image, goals.column, {relu: torch.tensor([signs], dtype=torch.int8)}, goals.slopes, goals.multipliers
        )
        solver = leaves.LeafSolver(balls, lower, upper, lambda *_: None)
        solved = solver.solve(part)
        assert (float(balls.proven_bounds(solved.goals)) > 0) == empty
        climbed, bound = ascend(balls.lower_bounds, part, Ascent(steps=200, multiplier_rate=0.5, decay=1.0))
        assert (float(bound) > 0) == empty
        assert (float(balls.proven_bounds(climbed)) > 0) == empty


def test_multipliers_of_leaves_reach_the_linear_program() -> None:
    """The guarded bound of a fully split part is the program's minimum, up to the slack for rounding."""
    from scipy.optimize import linprog

    net = relu_net(1, (2, 6, 6, 2))
    x = torch.tensor([[0.5, 0.5]])
    label = net(x).argmax(dim=1)
    lower, upper = outward_ball(x, 0.4)
    balls = Balls.around(gls_es.Network(net, (2,)), lower, upper, label, execution="real")
    points = lower + (upper - lower) * torch.rand(20, 2, generator=torch.Generator().manual_seed(0)).double()
    exactly = nn.Sequential(*net).double().requires_grad_(False)
    for point in points:
        goals = balls.goals(torch.tensor([0]), torch.tensor([0]))
        z = _inputs(exactly, point[None])[:-1]
        open_neurons = unsplit(balls, goals)
        signs = {
            relu: torch.where(open_neurons[relu], value.sign(), 0).to(torch.int8)
            for relu, value in zip(goals.signs, z, strict=True)
        }
        part = Goals(goals.image, goals.column, signs, goals.slopes, goals.multipliers)
        solved = leaves.LeafSolver(balls, lower, upper, lambda *_: None).solve(part)
        probe = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
        # the part's affine maps, from the pattern at the point
        maps, value = [], probe
        for layer in exactly:
            if isinstance(layer, nn.ReLU):
                maps.append(value)
                value = value * (z[len(maps) - 1] >= 0)
            else:
                value = layer(value)
        table = torch.cat([(values * sign).T for values, sign in zip(maps, signs.values(), strict=True)])
        table = table[table.abs().sum(1) > 0]
        goal = value @ -balls.rows[0, 0]
        found = linprog(
            (goal[1:] - goal[0]).numpy(),
            A_ub=-(table[:, 1:] - table[:, :1]).numpy(),
            b_ub=table[:, 0].numpy(),
            bounds=torch.stack([lower[0], upper[0]], dim=1).numpy(),
            method="highs",
        )
        assert found.success
        minimum = found.fun + float(goal[0])
        proven = float(balls.proven_bounds(solved.goals))
        assert minimum - 1e-6 * (1 + abs(minimum)) <= proven <= minimum + 1e-9


def test_branching_takes_the_neuron_with_the_best_worse_child() -> None:
    task = small_task(6)
    balls = _balls(task)
    goals = balls.goals(torch.tensor([0, 1]), torch.tensor([0, 0]))
    choice = choose(balls, goals, most=5)
    counts = [int(part.flatten(1).shape[1]) for part in goals.signs.values()]
    open_neurons = torch.cat([part.flatten(1) for part in unsplit(balls, goals).values()], dim=1)
    assert torch.equal(choice.exists, open_neurons.any(dim=1))
    for place in range(2):
        if not choice.exists[place]:
            continue
        assert open_neurons[place, choice.neuron[place]]
        one = goals.at(torch.tensor([place]))
        worst = torch.full((sum(counts),), -torch.inf, dtype=torch.float64)
        for neuron in open_neurons[place].nonzero()[:, 0]:
            worst[neuron] = balls.lower_bounds(children(one, neuron[None])).amin()
        if int(open_neurons[place].sum()) <= 3:  # then every neuron is a candidate
            assert worst[choice.neuron[place]] == worst.max()
        assert worst[choice.neuron[place]] >= worst[open_neurons[place]].median()


def _hard() -> tuple[nn.Sequential, Tensor, Tensor, float]:
    """Images of which only many splits decide some."""
    net = relu_net(3, (2, 20, 20, 20, 3))
    images = random_images(3, 12, 2)
    return net, images, net(images).argmax(dim=1), 0.15


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"max_domains": 2}, "domains"), ({"timeout": 1e-9}, "timeout"), ({"budget": 2**20, "max_domains": 10**6}, None)],
)
def test_what_runs_out_is_the_reason(options: dict[str, object], reason: str | None) -> None:
    net, images, labels, eps = _hard()
    stages = ("alpha", "bab")
    report = certify(net, images, labels, eps, stages=stages, **options)
    reasons = {v.reason for v in report.verdicts if v.verdict == "unknown"}
    assert reasons == ({reason} if reason else set())
    before = certify(net, images, labels, eps, stages=("alpha",))
    for verdict, first in zip(report.verdicts, before.verdicts, strict=True):
        if verdict.verdict == "unknown":
            assert verdict.margin >= first.margin
            assert set(verdict.times) == {"clean", "alpha", "bab"}
            assert first.reason == "stages"


def test_without_scipy_a_leaf_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, labels, eps = _hard()
    whole = certify(net, images, labels, eps, stages=("bab",), max_domains=10**6)
    assert whole.counts["falsified"] > 0
    monkeypatch.setattr(leaves.importlib.util, "find_spec", lambda _: None)
    report = certify(net, images, labels, eps, stages=("bab",), max_domains=10**6)
    for verdict, first in zip(report.verdicts, whole.verdicts, strict=True):
        if first.verdict == "falsified":
            assert (verdict.verdict, verdict.reason) == ("unknown", "solver")
        else:
            assert verdict.verdict in (first.verdict, "unknown")


def test_two_runs_with_a_limit_of_parts_are_equal() -> None:
    net, images, labels, eps = _hard()
    runs = [certify(net, images, labels, eps, stages=("bab",), max_domains=20) for _ in range(2)]
    one, two = ([(v.verdict, v.margin, v.reason, v.sha256) for v in run.verdicts] for run in runs)
    assert one == two
    assert np.isfinite([margin for _, margin, _, _ in one if margin is not None]).all()


def test_no_point_of_a_certified_ball_is_misclassified() -> None:
    """A million float32 points: uniform ones, corners, and where a stronger attack than the cascade's ends."""
    checked = 0
    generator = torch.Generator().manual_seed(0)
    for seed in (3, 6):
        net = relu_net(seed, (2, 20, 20, 20, 3))
        images = random_images(seed, 24, 2)
        labels = net(images).argmax(dim=1)
        report = certify(net, images, labels, 0.15, stages=("crown", "bab"), max_domains=500)
        certified = [v.index for v in report.verdicts if v.verdict == "certified"]
        assert any(v.stage == "bab" for v in report.verdicts if v.verdict == "certified")
        x, y = images[certified], labels[certified]
        lower, upper = inner_box(x, eps=0.15, clip=True)
        for chosen in torch.rand(45_000, 1, 2, generator=generator).split(5000):
            chosen = torch.where(chosen < 0.1, 0.0, torch.where(chosen > 0.9, 1.0, chosen))  # a third at the border
            points = torch.clamp(lower + chosen * (upper - lower), lower, upper)
            found = net(points.flatten(0, 1)).argmax(dim=1).reshape(points.shape[:2])
            checked += found.numel()
            assert (found == y).all()
        strong = find_counterexamples(
            gls_es.Network(net, (2,)), x, y, 0.15, options=AttackOptions(steps=60, restarts=20), seed=1
        )
        assert strong.counterexamples == (None,) * len(x)
    assert checked > 10**6
