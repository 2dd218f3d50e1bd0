"""The picture shows each jump that the table counts, and the largest one from close by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from gls_es.landscape import Landscape, statistics
from gls_es.landscape.plot import save_plot
from gls_es.landscape.survey import Curve, Zoom
from gls_es.landscape.zoom import POINTS, zoomed

from .test_lines import line_of, small_net
from .test_statistics import Known, Steps


def known(kind: type[Known]) -> Known:
    net = small_net()
    base = line_of(net, "ibp", torch.zeros(net.num_parameters, dtype=torch.float64))
    return kind(net, base.batch, base.center, base.direction)


def test_a_zoom_holds_the_jump_in_its_middle_and_as_much_of_the_rest() -> None:
    line, steps = known(Steps), torch.linspace(-1, 1, 41, dtype=torch.float64)
    losses = line.losses(steps)
    around, found = zoomed(line, steps, losses, statistics(line, steps, losses))
    assert bool((around.diff() > 0).all())
    assert float(around[POINTS - 1]) < 0.123 < float(around[POINTS])
    assert float(found[POINTS] - found[POINTS - 1]) == pytest.approx(0.5, abs=1e-9)
    for part in (found[:POINTS], found[POINTS:]):  # the parabola alone, which does not dwarf the jump
        assert float(part.max() - part.min()) < 0.5
    assert float(around[-1] - around[0]) == pytest.approx(0.15)  # it is flat: three grid intervals are the most


def test_every_jump_has_a_mark_and_the_largest_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line, steps = known(Steps), torch.linspace(-1, 1, 41, dtype=torch.float64)
    losses = line.losses(steps)
    found = statistics(line, steps, losses)
    zoom = Zoom("ibp", "random", found.places[0], *zoomed(line, steps, losses, found))
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_args, **_options: drawn.append(figure))
    curve = Curve("ibp", "random", 0.0, losses)
    save_plot(Landscape(0.1, 1, steps, (curve,), {"random": (found,)}, (zoom,)), tmp_path / "a.png")
    (axis,) = drawn[0].axes
    (marks,) = [one for one in axis.get_lines() if one.get_marker() == "|"]
    assert sorted(marks.get_xdata()) == pytest.approx([-0.4, 0.123])
    (window,) = axis.child_axes
    left, right = (one.get_ydata() for one in window.get_lines())
    assert right[0] - left[-1] == pytest.approx(0.5)
