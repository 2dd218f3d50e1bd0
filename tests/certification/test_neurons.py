"""Splits of neurons with fresh bounds, against exact minima of small networks."""

import math
from fractions import Fraction

import pytest
import torch
from small_nets import Task, small_task
from torch import nn

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.certification import decide, neurons
from gls_es.certification.halving import open_cases
from gls_es.certification.neurons import NeuronSplits
from gls_es.certification.rows import with_rows
from gls_es.certification.violation import Group, Violations
from gls_es.network import Network


def _group(task: Task, image: int, least: dict[int, float]) -> Group:
    """One case for each other class j: f_y - f_j <= a number."""
    label, classes = int(task.labels[image]), task.net.classes
    rows = []
    for j, value in least.items():
        c = [Fraction((k == label) - (k == j)) for k in range(classes)]
        rows.append((Row(tuple(c), Fraction(value)),))
    low, up = task.box(image)
    box = Boundary(tuple(map(Fraction, low.tolist())), tuple(map(Fraction, up.tolist())))
    network = Network(with_rows(task.net, [row for case in rows for row in case]), (task.net.pixels,))
    return Group(tuple(rows), network, (box,))


def _search(group: Group, deadline: Deadline = NEVER) -> NeuronSplits:
    """Whatever it meets is no violation here: nothing is executed."""
    outputs = len(group.rows[0][0].coefficients)
    violations = Violations(group, lambda x: torch.full((len(x), outputs), math.nan), 0, deadline)
    return NeuronSplits(violations, "float32", group.boxes[0])


def _crown_proves(group: Group) -> bool:
    ends = group.shaped([group.boxes[0].outward()])
    return not bool(open_cases(group, *ends, method="crown", execution="float32").any())


def test_nothing_false_is_proven_and_more_than_by_bounds_of_the_whole_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every margin just below its exact minimum may be proven, just above it must not, for two cases as for one."""
    monkeypatch.setattr(NeuronSplits, "_hopeless", lambda *_: False)
    gained, tried = 0, 0
    for seed in range(10):
        task = small_task(seed, images=1)
        others = [j for j in range(task.net.classes) if j != int(task.labels[0])]
        minima = dict(zip(others, task.minima(0), strict=True))
        for gap in (0.02, 0.2):
            below = _group(task, 0, {j: value - gap for j, value in minima.items()})
            tried += not _crown_proves(below)
            gained += not _crown_proves(below) and _search(below).run()[0]
        for j in others:
            wrong = _group(task, 0, {k: value + (1e-4 if k == j else -0.5) for k, value in minima.items()})
            assert not _search(wrong).run()[0], seed
    assert gained > tried / 2, f"{gained} of {tried}"


def _deep(seed: int) -> nn.Sequential:
    """Narrow and deep, with more inputs than are halved: what is lost in front is lost many times over."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in [(24, 12), (12, 12), (12, 12), (12, 12), (12, 12), (12, 2)]:
        layer = nn.Linear(before, after)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(after, before, generator=generator) * (2 / before) ** 0.5)
            layer.bias.copy_(0.1 * torch.randn(after, generator=generator))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_conjunctions_over_many_inputs_are_decided() -> None:
    """Two rows in a case, which no stage for single rows takes; 1,000 samples and corners look for a violation."""
    decided = 0
    for seed in (0, 4, 6, 7):
        net = _deep(seed)
        centre = torch.rand(24, generator=torch.Generator().manual_seed(seed))
        centre = (centre * 64).round() / 64
        low, up = centre - 1 / 64, centre + 1 / 64
        unit = torch.rand(1000, 24, generator=torch.Generator().manual_seed(9))
        points = torch.cat([unit[:500], unit[500:].round()]) * (up - low) + low
        with torch.no_grad():
            least = (net(points) @ torch.tensor([[1.0, 0.5], [-1.0, 0.5]])).amax(dim=1).min()
        d = Fraction(float(least) - 0.1)
        rows = (Row((Fraction(1), Fraction(-1)), d), Row((Fraction(1, 2), Fraction(1, 2)), d))
        box = Boundary(tuple(map(Fraction, low.tolist())), tuple(map(Fraction, up.tolist())))
        decision = decide(net, (24,), Property(24, 2, (Case(box, rows),)), timeout=10)
        decided += decision.result == "unsat"
        if decision.result == "sat":
            assert decision.outputs is not None
            assert all(row.fulfilled(tuple(map(Fraction, decision.outputs))) for row in rows)
    assert decided >= 3, decided


def test_it_gives_up_where_it_does_not_get_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A false property of a network with many unstable neurons, which no split makes true."""
    net = _deep(1)
    box = Boundary((Fraction(0),) * 24, (Fraction(1),) * 24)
    rows = ((Row((Fraction(1), Fraction(0)), Fraction(100)),),)
    group = Group(rows, Network(with_rows(net, rows[0]), (24,)), (box,))
    search = _search(group)
    assert search.run() == (False, None)
    assert search.seen < 2 ** neurons.LEVELS[1] * 4
    assert _search(group, Deadline.after(-1.0)).run() == (False, None)
    monkeypatch.setattr(neurons, "MOST_BYTES", 0)
    assert _search(group).run() == (False, None)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("seed", [0, 3, 5])
def test_branch_and_bound_is_left_a_share_of_the_time(seed: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cases have one row; for several rows there is no branch and bound, and the search takes all there is."""
    monkeypatch.setattr(neurons, "MOST_SHARE", -1.0)
    task = small_task(seed, images=1)
    others = [j for j in range(task.net.classes) if j != int(task.labels[0])]
    minima = dict(zip(others, task.minima(0), strict=True))
    group = _group(task, 0, {j: value - 0.004 for j, value in minima.items()})
    group = Group(tuple(case * rows for case in group.rows), _repeated(task, group, rows), group.boxes)
    assert not _crown_proves(group)
    assert _search(group, Deadline.after(600.0)).run()[0] is (rows == 2)
    assert _search(group).run()[0]  # without a limit there is always time


def _repeated(task: Task, group: Group, times: int) -> Network:
    """The network of a group whose rows are repeated in their cases."""
    return Network(with_rows(task.net, [row for case in group.rows for row in case * times]), (task.net.pixels,))
