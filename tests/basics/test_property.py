"""Exact properties: rounding of box ends, rows, and witnesses, in rationals."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from gls_es.basics.property import Boundary, Case, Row, float32
from gls_es.certification.rows import with_rows
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


def test_coefficients_beyond_float32_are_refused() -> None:
    with pytest.raises(ConfigError, match="too fine"):
        with_rows(nn.Identity(), [Row((Fraction(1), Fraction(1) + Fraction(1, 10**9)), Fraction(0))])
