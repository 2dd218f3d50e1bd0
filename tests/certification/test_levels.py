"""Many boxes at once, against exact piecewise linear functions of one input."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.certification import decide, decision, levels
from gls_es.certification.levels import Left, Levels
from gls_es.certification.violation import Group

BOXES = 40
EDGES = [Fraction(place, BOXES) for place in range(BOXES + 1)]


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 2))
    nn.init.uniform_(net[0].bias, -1, 1)
    return net


def values(net: nn.Sequential, x: Fraction) -> list[Fraction]:
    """The outputs in exact arithmetic."""
    first, last = net[0], net[2]
    hidden = [
        max(Fraction(0), Fraction(w) * x + Fraction(b))
        for (w,), b in zip(first.weight.tolist(), first.bias.tolist(), strict=True)
    ]
    return [
        sum((Fraction(w) * h for w, h in zip(row, hidden, strict=True)), Fraction(b))
        for row, b in zip(last.weight.tolist(), last.bias.tolist(), strict=True)
    ]


def pieces(net: nn.Sequential, low: Fraction, high: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Between two numbers, the intervals on which the network is linear."""
    pairs = zip(net[0].weight.flatten().tolist(), net[0].bias.tolist(), strict=True)
    kinks = [-Fraction(b) / Fraction(w) for w, b in pairs if w]
    places = sorted({low, high, *(kink for kink in kinks if low < kink < high)})
    return list(itertools.pairwise(places))


def slack(net: nn.Sequential, case: Case) -> Fraction:
    """The least that the worst row of a case exceeds its level by, over its box; it can be fulfilled if <= 0."""
    found = []
    for low, high in pieces(net, case.box.lower[0], case.box.upper[0]):
        ends = [[row.excess(values(net, x), (x,)) for row in case.rows] for x in (low, high)]
        shares = {Fraction(0), Fraction(1)}  # the largest of lines is least at an end or where two of them meet
        for i, j in itertools.combinations(range(len(case.rows)), 2):
            start, end = ends[0][i] - ends[0][j], ends[1][i] - ends[1][j]
            if start != end and 0 <= start / (start - end) <= 1:
                shares.add(start / (start - end))
        found += [max(a + t * (b - a) for a, b in zip(*ends, strict=True)) for t in shares]
    return min(found)


def cases_near(net: nn.Sequential, rng: np.random.Generator, distance: float, *, rows: int) -> list[Case]:
    """A case for each box whose rows can be fulfilled, or not, by about a distance; a few functions in all."""
    functions = [((1, 0), ()), ((-1, 0), ()), ((0, 1), ()), ((1, -1), ()), ((-1, 0), (0.5,))]
    found = []
    for low, high in itertools.pairwise(EDGES):
        box = Boundary((low,), (high,))
        chosen = [functions[k] for k in rng.choice(len(functions), rows, replace=False)]
        told = tuple(Row(_exact(outputs), Fraction(0), _exact(inputs)) for outputs, inputs in chosen)
        level = slack(net, Case(box, told)) - Fraction(float(distance * rng.choice([1, 1.5, 4])))
        found.append(Case(box, tuple(Row(row.coefficients, level, row.inputs) for row in told)))
    return found


def _exact(numbers: Sequence[float]) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, numbers))


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[Left]:
    """What was left, each time."""
    found: list[Left] = []

    class Watched(Levels):
        def run(self, *args: object, **options: object) -> Left:
            found.append(super().run(*args, **options))  # type: ignore[arg-type]
            return found[-1]

    monkeypatch.setattr(decision, "Levels", Watched)
    return found


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_what_cannot_be_fulfilled_is_ruled_out_together(seed: int, rows: int, left: list[Left]) -> None:
    net, rng = network(seed), np.random.default_rng(seed)
    cases = cases_near(net, rng, 0.003, rows=rows)
    assert min(slack(net, case) for case in cases) > 0
    found = decide(net, (1,), Property(1, 2, tuple(cases)))
    assert found.result == "unsat"
    assert left[0].cases == []
    assert found.stage == left[0].stage


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_one_violation_among_many_boxes_is_met(seed: int, rows: int, left: list[Left]) -> None:
    net, rng = network(seed), np.random.default_rng(100 + seed)
    cases = cases_near(net, rng, 0.003, rows=rows)
    place = int(rng.integers(BOXES))
    cases[place] = Case(
        cases[place].box,
        tuple(Row(row.coefficients, row.offset + Fraction(1, 50), row.inputs) for row in cases[place].rows),
    )
    assert slack(net, cases[place]) < 0
    found = decide(net, (1,), Property(1, 2, tuple(cases)))
    assert found.result == "sat"
    assert left[0].cases == [cases[place]]
    assert found.inputs is not None
    assert found.outputs is not None
    assert EDGES[place] <= found.inputs[0] <= EDGES[place + 1]
    assert cases[place].violated_by(found.outputs, found.inputs)


def test_halving_goes_where_whole_boxes_leave_cases_open(left: list[Left], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 2))
    edges = [Fraction(place, 20) for place in range(21)]
    cases = []
    for low, high in itertools.pairwise(edges):
        x = torch.linspace(float(low), float(high), 2001)[:, None]
        least = net(x)[:, 0].min().item()
        cases.append(Case(Boundary((low,), (high,)), (Row(_exact((1, 0)), Fraction(least - 1e-4)),)))
    prop = Property(1, 2, tuple(cases))
    assert decide(net, (1,), prop).result == "unsat"
    assert left[-1].stage == "halving"
    assert left[-1].cases == []
    monkeypatch.setattr(levels, "DEPTH", 1)
    assert decide(net, (1,), prop).result == "unsat"  # box by box, what was left open
    assert left[-1].cases


def test_few_boxes_many_functions_and_fine_numbers_go_the_other_way(left: list[Left]) -> None:
    net, rng = network(3), np.random.default_rng(3)
    cases = cases_near(net, rng, 0.01, rows=1)
    assert decide(net, (1,), Property(1, 2, tuple(cases[: levels.MANY - 1]))).result == "unsat"
    assert left[-1].asked is None
    assert len(left[-1].cases) == levels.MANY - 1
    fine = [
        Case(case.box, tuple(Row((Fraction(1, 3), Fraction(0)), Fraction(-9)) for _ in case.rows)) for case in cases
    ]
    assert decide(net, (1,), Property(1, 2, tuple(fine))).result == "unsat"
    assert left[-1].asked is None


def test_graph_and_module_are_compared_on_all_boxes(left: list[Left], monkeypatch: pytest.MonkeyPatch) -> None:
    net, rng = network(0), np.random.default_rng(0)
    prop = Property(1, 2, tuple(cases_near(net, rng, 0.01, rows=1)))
    asked: list[Group] = []
    monkeypatch.setattr(decision, "_agrees", lambda group: asked.append(group))
    assert decide(net, (1,), prop).result == "unknown"
    assert left[0].cases == []
    assert [box for group in asked for box in group.boxes] == [case.box for case in prop.cases]


def test_a_level_is_the_largest_number_that_fulfils_a_row() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        number = Fraction(float(rng.normal())) + Fraction(int(rng.integers(-3, 4)), 2**60)
        row = Row((Fraction(1),), number, strict=bool(rng.integers(2)))
        level = levels._above(row)
        near = [float(number)]
        for _ in range(2):
            near = [np.nextafter(near[0], -np.inf), *near, np.nextafter(near[-1], np.inf)]
        for value in map(float, near):
            assert (value > level) == (not row.fulfilled([Fraction(value)])), (number, value, row.strict)
