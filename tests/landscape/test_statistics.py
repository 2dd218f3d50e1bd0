"""Jumps are found where they are, and nowhere else: on functions whose jumps are known, then on relaxations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gls_es.landscape import Line, Statistics, random_direction, statistics
from gls_es.landscape.statistics import HALVINGS

from .test_lines import line_of, small_net


class Known(Line):
    """A line through a known function of t, which is the first weight."""

    def losses(self, steps: Tensor) -> Tensor:
        return torch.stack([self.function(t) for t in steps.double()])

    @staticmethod
    def function(t: Tensor) -> Tensor:
        raise NotImplementedError


class Steps(Known):
    """A parabola with jumps of 0.5 at t = 0.123 and of -0.25 at t = -0.4."""

    @staticmethod
    def function(t: Tensor) -> Tensor:
        return t * t + 0.5 * (t >= 0.123) - 0.25 * (t > -0.4)


class Steep(Known):
    """Continuous, but it rises by 1 within 2e-4: steeper than any grid resolves."""

    @staticmethod
    def function(t: Tensor) -> Tensor:
        return torch.clamp(t * 5000, 0.0, 1.0)


def of(kind: type[Known], points: int = 41) -> Statistics:
    net = small_net()
    base = line_of(net, "ibp", torch.zeros(net.num_parameters, dtype=torch.float64))
    line = kind(net, base.batch, base.center, base.direction)
    steps = torch.linspace(-1, 1, points, dtype=torch.float64)
    return statistics(line, steps, line.losses(steps), examine=8)


def test_known_jumps_are_found_with_their_heights() -> None:
    found = of(Steps)
    assert (found.jumps, found.examined) == (2, 8)
    assert found.largest_jump == pytest.approx(0.5, abs=2.0**-HALVINGS)
    assert found.places == pytest.approx((0.123, -0.4), abs=2.0**-HALVINGS)  # the largest first


def test_steep_is_not_a_jump() -> None:
    found = of(Steep)
    assert (found.jumps, found.largest_jump) == (0, 0.0)


def test_variation_minima_and_sensitivity_of_a_parabola() -> None:
    class Parabola(Known):
        function = staticmethod(lambda t: t * t)

    found = of(Parabola, points=2001)
    assert found.variation == pytest.approx(2.0)
    assert found.minima == 1
    assert found.range == pytest.approx(1.0)
    assert found.sensitivity == pytest.approx((4 / 3) ** 0.5, rel=1e-3)  # mean of (2 t)² over [-1, 1]


@pytest.mark.parametrize(("method", "jumps"), [("ibp", False), ("deepz", False), ("crown", True), ("hbox", True)])
def test_relaxations_jump_where_the_paradox_table_says(method: str, jumps: bool) -> None:
    # arXiv 2102.06700: IBP and DeepZ are continuous, CROWN (slope switch at u = -l) and hBox (at l = 0) are not
    net = small_net()
    line = line_of(net, method, random_direction(net, net.parameter_vector().double(), seed=3), eps=0.2)
    steps = torch.linspace(-0.8, 0.8, 201, dtype=torch.float64)
    found = statistics(line, steps, line.losses(steps), examine=60)
    assert (found.jumps > 0) == jumps
