"""The inside of the exact ball, against rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from certification_nets import in_exact_ball
from hypothesis import given, settings
from hypothesis import strategies as st

from gls_es.certification.ball import beyond, inner_box, inside

PIXEL_EPS = [1 / 255, 2 / 255, 8 / 255, 0.1, 0.3]
floats = st.floats(0.0, 1.0, width=32)
radii = st.one_of(st.sampled_from([0.0, *PIXEL_EPS, 1.0]), st.floats(0.0, 1.0))


@pytest.mark.parametrize("eps", PIXEL_EPS)
@pytest.mark.parametrize("clip", [True, False])
def test_inner_box_is_the_largest_within_the_ball_for_all_pixel_values(eps: float, clip: bool) -> None:
    pixels = (torch.arange(256).double() / 255).float()
    lower, upper = inner_box(pixels, eps=eps, clip=clip)
    for x, low, high in zip(pixels.tolist(), lower.tolist(), upper.tolist(), strict=True):
        ends = (Fraction(x) - Fraction(eps), Fraction(x) + Fraction(eps))
        if clip:
            ends = (max(ends[0], Fraction(0)), min(ends[1], Fraction(1)))
        assert ends[0] <= Fraction(low) <= Fraction(high) <= ends[1]
        assert Fraction(float(np.nextafter(np.float32(low), np.float32(-9)))) < ends[0]
        assert Fraction(float(np.nextafter(np.float32(high), np.float32(9)))) > ends[1]


def test_rounded_box_would_leave_the_ball() -> None:
    """Power control: without care many ends lie outside, so the test above can fail."""
    pixels = (torch.arange(256).double() / 255).float()
    for eps in (8 / 255, 0.1):
        naive = (pixels - eps).tolist()
        outside = [Fraction(x) - Fraction(low) > Fraction(eps) for x, low in zip(pixels.tolist(), naive, strict=True)]
        assert sum(outside) > 20


@settings(max_examples=400, deadline=None)
@given(x=floats, p=floats, eps=radii)
def test_beyond_is_exact(x: float, p: float, eps: float) -> None:
    found = bool(beyond(torch.tensor([p]), torch.tensor([x]), eps=eps))
    assert found == (abs(Fraction(p) - Fraction(x)) > Fraction(eps))


@settings(max_examples=400, deadline=None)
@given(x=floats, p=floats, nudge=st.sampled_from([-1, 0, 1]))
def test_beyond_is_exact_at_the_border(x: float, p: float, nudge: int) -> None:
    """A radius equal to the rounded distance, or one step of float64 beside it."""
    distance = abs(p - x)
    eps = float(np.nextafter(distance, nudge * 9.0)) if nudge else distance
    eps = max(eps, 0.0)
    found = bool(beyond(torch.tensor([p]), torch.tensor([x]), eps=eps))
    assert found == (abs(Fraction(p) - Fraction(x)) > Fraction(eps))


def test_distance_that_rounds_to_eps_but_exceeds_it() -> None:
    """1 - 2^-80 rounds to 1 in float64: within eps = 1; 0.5 + 2^-80 rounds to 0.5: beyond eps = 0.5."""
    tiny = 2.0**-80
    assert not bool(beyond(torch.tensor([1.0]), torch.tensor([tiny]), eps=1.0))
    assert bool(beyond(torch.tensor([0.5]), torch.tensor([-tiny]), eps=0.5))


@settings(max_examples=200, deadline=None)
@given(xs=st.lists(floats, min_size=1, max_size=4), eps=radii, clip=st.booleans())
def test_inner_box_is_inside(xs: list[float], eps: float, clip: bool) -> None:
    images = torch.tensor([xs])
    for corner in inner_box(images, eps=eps, clip=clip):
        assert in_exact_ball(corner, images, eps, clip=clip)
        assert bool(inside(corner, images, eps=eps, clip=clip))


def test_inside_rejects_nan_infinity_and_values_outside_the_unit_interval() -> None:
    images = torch.tensor([[0.0, 1.0]] * 4)
    points = torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [0.0, float("inf")], [-0.01, 1.0]])
    assert inside(points, images, eps=0.5, clip=True).tolist() == [True, False, False, False]
    assert inside(points, images, eps=0.5, clip=False).tolist() == [True, False, False, True]
