"""Exact properties: rounding of box ends, rows, and witnesses, in rationals."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from gls_es.basics.property import Boundary, Case, Row
from gls_es.basics.rounding import float32
from gls_es.certification.rows import settled, with_rows
from gls_es.errors import ConfigError

TENTH = Fraction(1, 10)


def _fractions(seed: int, n: int) -> list[Fraction]:
    rng = np.random.default_rng(seed)
    pairs = zip(rng.integers(-(10**9), 10**9, n).tolist(), rng.integers(1, 10**9, n).tolist(), strict=True)
    return [Fraction(a, b) for a, b in pairs]


def test_float32_is_the_nearest_number() -> None:
    for number in [*_fractions(0, 2000), Fraction(1, 3), Fraction(0), TENTH, Fraction(2) ** -150, Fraction(10) ** 30]:
        value = float32(number)
        assert np.float32(value) == value
        for side in (-np.inf, np.inf):
            beside = Fraction(float(np.nextafter(np.float32(value), np.float32(side))))
            assert abs(Fraction(value) - number) <= abs(beside - number)


def test_float32_rounds_once() -> None:
    """1 + 2^-24 + 2^-60 is 1 + 2^-24 in float64, a tie that would round to 1; the nearest float32 is above."""
    assert float32(1 + Fraction(1, 2**24) + Fraction(1, 2**60)) == 1 + 2.0**-23
    assert float32(1 + Fraction(3, 2**24) - Fraction(1, 2**60)) == 1 + 2.0**-23
    assert float32(1 + Fraction(1, 2**24)) == 1.0
    assert float32(1 + Fraction(3, 2**24)) == 1 + 2.0**-22


def test_the_outward_box_contains_the_box_and_what_float32_makes_of_it() -> None:
    ends = [sorted(pair) for pair in zip(_fractions(1, 500), _fractions(2, 500), strict=True)]
    box = Boundary(tuple(low for low, _ in ends), tuple(up for _, up in ends))
    lower, upper = box.outward()
    low, up = box.points()
    for i in range(500):
        assert Fraction(float(lower[i])) <= min(box.lower[i], Fraction(float(low[i])))
        assert Fraction(float(upper[i])) >= max(box.upper[i], Fraction(float(up[i])))
        assert abs(Fraction(float(lower[i])) - box.lower[i]) <= abs(box.lower[i]) * Fraction(1, 2**23)


def test_witnesses_are_written_inside_the_box_and_read_as_the_point() -> None:
    box = Boundary((TENTH, Fraction(0)), (TENTH, Fraction(1)))
    point = torch.tensor([0.1, 0.25])
    assert Fraction(float(point[0])) > TENTH  # float32 rounds 0.1 up, out of the box
    assert box.written(point) == (TENTH, Fraction(1, 4))
    assert box.written(torch.tensor([0.1, 1.5])) is None
    assert box.written(torch.nextafter(point, torch.ones(2))) is None


def test_ends_without_decimals_are_written_as_numbers_inside() -> None:
    third, seventh = Fraction(1, 3), Fraction(1, 7)
    box = Boundary((third, seventh), (third + Fraction(1, 10**9), seventh + Fraction(1, 10**9)))
    low, up = box.points()
    for point in (low, up):
        written = box.written(point)
        assert written is not None
        for i, number in enumerate(written):
            assert box.lower[i] <= number <= box.upper[i]
            assert number == Fraction(float(number)), "float64 reads what decimals say"
            assert float32(number) == float(point[i])
    single = Boundary((third,), (third,))
    assert single.written(single.points()[0]) == (third,), "nothing else lies in it"


def test_cases_are_violated_exactly() -> None:
    row = Row((Fraction(1), Fraction(-1)), TENTH)
    case = Case(Boundary((Fraction(0),), (Fraction(1),)), (row, Row((Fraction(0), Fraction(1)), Fraction(2))))
    assert case.violated_by([1.0, 1.0])
    assert not case.violated_by([1.0, 3.0])
    assert not case.violated_by([0.1, 0.0])  # the float 0.1 is more than a tenth
    assert not case.violated_by([math.nan, 1.0])
    assert not case.violated_by([-math.inf, 1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_become_outputs(dtype: torch.dtype) -> None:
    module = nn.Linear(3, 4).to(dtype)
    rows = [
        Row((Fraction(1), Fraction(-1), Fraction(0), Fraction(0)), Fraction(0)),
        Row((Fraction(0), Fraction(1, 2), Fraction(0), Fraction(-3)), Fraction(5, 4)),
    ]
    x = torch.rand(6, 3, dtype=dtype)
    with torch.no_grad():
        y, found = module(x), with_rows(module, rows)(x)
    assert found.dtype == dtype
    assert torch.equal(found[:, 0], torch.zeros(6, dtype=dtype))
    assert torch.allclose(found[:, 1], -(y[:, 0] - y[:, 1]), atol=1e-6)
    assert torch.allclose(found[:, 2], -(y[:, 1] / 2 - 3 * y[:, 3] - 1.25), atol=1e-6)


def test_rows_are_never_made_easier_by_rounding() -> None:
    """A positive multiple of coefficients, and an offset rounded up: g' > 0 implies g > 0."""
    for offset in _fractions(3, 200):
        layer = with_rows(nn.Identity(), [Row((TENTH, Fraction(-3, 10)), offset)])[2]
        weight, bias = [Fraction(float(v)) for v in layer.weight[1].detach()], Fraction(float(layer.bias[1].detach()))
        assert weight == [Fraction(-1), Fraction(3)]
        assert bias >= 10 * offset
        assert bias - 10 * offset <= abs(10 * offset) * Fraction(1, 2**22)


def _exactly(module: nn.Module, x: list[Fraction]) -> list[Fraction]:
    """What linear layers on top of an identity make of exact numbers, in exact arithmetic."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    weights = [[[Fraction(v) for v in row] for row in layer.weight.tolist()] for layer in layers]
    biases = [layer.bias.tolist() if layer.bias is not None else [0.0] * len(layer.weight) for layer in layers]
    return [
        sum((w * v for table in weights for w, v in zip(table[i], x, strict=True)), Fraction(0))
        + sum(Fraction(bias[i]) for bias in biases)
        for i in range(len(weights[0]))
    ]


def test_decimals_finer_than_float32_are_kept_exactly() -> None:
    """A row's outputs are a positive multiple of its exact value, whatever decimals it is written with."""
    fine = [Fraction(1), 1 + Fraction(1, 10**9)], [Fraction(123456789, 10**9), Fraction(-7, 10**11)]
    for c in fine:
        rows = [Row(tuple(c), Fraction(0)), Row((Fraction(0), Fraction(1)), Fraction(0), tuple(c))]
        module = with_rows(nn.Identity(), rows)
        ratios = []
        for x in (_fractions(5, 2), [Fraction(1), Fraction(-1)]):
            zero, *found = _exactly(module, x)
            assert zero == 0
            ratios.append([-value / row.excess(x, x) for value, row in zip(found, rows, strict=True)])
        assert ratios[0] == ratios[1]
        assert min(ratios[0]) > 0


def test_numbers_too_far_apart_are_refused() -> None:
    for c in ((Fraction(1), Fraction(1) + Fraction(1, 10**40)), (Fraction(10) ** 60, Fraction(1, 10**60))):
        with pytest.raises(ConfigError, match="too fine"):
            with_rows(nn.Identity(), [Row(c, Fraction(0))])


def test_what_lies_beyond_a_format_is_settled_without_a_search() -> None:
    largest = float(np.finfo(np.float32).max)
    row = Row((Fraction(2), Fraction(0)), Fraction(10) ** 400)
    assert settled(row, largest) is True
    assert settled(replace(row, offset=-row.offset), largest) is False
    assert settled(replace(row, offset=Fraction(10) ** 38), largest) is None
    assert settled(replace(row, offset=Fraction(10) ** 39), largest) is True
    assert settled(row, None) is None  # real numbers have no end
    edge = Row((Fraction(1),), -Fraction(largest))  # f <= -largest: the last number only
    assert settled(edge, largest) is None
    assert settled(replace(edge, strict=True), largest) is False


def test_strict_rows_and_open_ends_leave_their_border_out() -> None:
    row = Row((Fraction(1),), Fraction(1, 2), strict=True)
    assert not row.fulfilled([Fraction(1, 2)])
    assert row.fulfilled([Fraction(1, 2) - Fraction(1, 10**30)])
    box = Boundary((Fraction(0),), (Fraction(1),), open_lower=frozenset({0}))
    assert box.written(torch.tensor([0.0])) is None
    assert box.written(torch.tensor([1.0])) == (Fraction(1),)
    low, high = box.points()
    assert (float(low), float(high)) == (2.0**-149, 1.0)
    assert not box.empty
    assert Boundary((Fraction(1),), (Fraction(1),), open_upper=frozenset({0})).empty


def test_inputs_that_are_float32_numbers_lie_in_the_box_themselves() -> None:
    box = Boundary((TENTH, Fraction(0)), (Fraction(3, 10), TENTH), single=True)
    low, high = box.points()
    assert TENTH <= Fraction(float(low[0])) <= TENTH + Fraction(1, 2**26)
    assert Fraction(float(high[1])) <= TENTH
    assert box.written(torch.tensor([0.1, 0.0])) is not None  # float32 rounds 0.1 up, into this end
    assert box.written(torch.tensor([0.2, 0.1])) is None  # and out of that one
    point = Boundary((TENTH,), (TENTH,), single=True)  # no float32 number is a tenth
    assert point.written(point.points()[0]) is None
