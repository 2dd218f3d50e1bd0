"""Every stage stops when an image's time is over: measured on a clock that the tests move, not by waiting."""

import time
from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from certification_nets import QUICK, random_images, relu_net

from gls_es.basics import deadline as clock
from gls_es.basics.deadline import Deadline, OutOfTime
from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.bounds import Plan
from gls_es.certification import certify, decide
from gls_es.certification.dual import Balls
from gls_es.certification.leaves import LeafSolver
from gls_es.certification.rounding import outward_ball, sound_margins
from gls_es.certification.rows import with_rows
from gls_es.certification.violation import Group, Violations
from gls_es.network import Network

NET = relu_net(2, (4, 16, 16, 5))
X = random_images(2, 3, 4)
Y = NET(X).argmax(1)


class Ticking:
    """``time`` whose clock goes ten seconds at each look."""

    def __init__(self) -> None:
        self.now = time.perf_counter()
        self.looks = 0

    def perf_counter(self) -> float:
        self.looks += 1
        self.now += 10.0
        return self.now


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticking]:
    made = Ticking()
    monkeypatch.setattr(clock, "time", made)
    yield made
    assert made.looks > 0


@pytest.mark.parametrize("stage", ["attack", "crown", "best", "deepz", "alpha", "alpha-shared", "alpha-layers", "bab"])
def test_a_stage_that_is_late_says_so(stage: str, ticking: Ticking) -> None:
    report = certify(NET, X, Y, 0.2, stages=(stage,), attack=QUICK, timeout=1.0)
    assert {v.reason for v in report.verdicts if v.verdict == "unknown"} == {"timeout"}
    assert ticking.looks < 30  # 3 images: nobody goes on after the first late look


@pytest.mark.parametrize("method", ["crown", "best", "crown-unstable", "deepz", "hbox"])
def test_bounds_are_given_up_at_their_deadline(method: str) -> None:
    late = Plan(1 << 20, deadline=Deadline(0.0))
    lower, upper = outward_ball(X, 0.2)
    with pytest.raises(OutOfTime):
        sound_margins(Network(NET, (4,)), lower, upper, Y, method, plan=late)


def test_linear_programs_are_given_up_at_their_deadline() -> None:
    lower, upper = outward_ball(X, 0.2)
    balls = Balls.around(Network(NET, (4,)), lower, upper, Y, execution="float32")
    goal = balls.goals(torch.tensor([0]), torch.tensor([0]))
    solution = LeafSolver(balls, lower, upper, lambda *_: None).solve(goal, deadline=Deadline(0.0))
    assert (solution.goals, solution.counterexample, solution.reason) == (None, None, "timeout")


@pytest.mark.parametrize("inputs", [4, 20], ids=["halving", "certify"])
def test_decide_is_late_in_a_word(inputs: int, ticking: Ticking) -> None:
    net = relu_net(2, (inputs, 16, 16, 5))
    row = Row(tuple(Fraction(c) for c in (1, -1, 0, 0, 0)), Fraction(-100))
    box = Boundary((Fraction(0),) * inputs, (Fraction(1),) * inputs)
    assert decide(net, (inputs,), Property(inputs, 5, (Case(box, (row,)),)), timeout=5.0).result == "timeout"


def test_samples_leave_time_for_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point takes a hundredth of a second here, so that all samples would take three times 200, and steps more."""
    clocks = Ticking()
    monkeypatch.setattr(clocks, "perf_counter", lambda: clocks.now)
    monkeypatch.setattr(clock, "time", clocks)
    executed = Violations.excess

    def slow(self: Violations, points: torch.Tensor) -> torch.Tensor:
        clocks.now += 0.01 * len(points)
        return executed(self, points)

    monkeypatch.setattr(Violations, "excess", slow)
    row = Row(tuple(Fraction(c) for c in (1, -1, 0, 0, 0)), Fraction(-100))
    box = Boundary((Fraction(0),) * 4, (Fraction(1),) * 4)
    network = Network(with_rows(NET, [row]), (4,))
    begun = clocks.now
    Violations(Group(((row,),), network, (box,)), lambda x: NET(x), 0, Deadline.after(300.0)).search()
    assert 5 < clocks.now - begun < 60
