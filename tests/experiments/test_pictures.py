"""The picture of a table shows the rows' numbers where they belong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gls_es.errors import DataError
from gls_es.experiments import FULL
from gls_es.experiments.aggregate import Row
from gls_es.experiments.pictures import save_table, sweeps, table_figure
from gls_es.experiments.tables import Published

TABLE = FULL["digits-0.1"]


def row(name: str, natural: float, certified: float, stdev: float | None = 0.01) -> Row:
    mean = {"natural_accuracy": natural, "certified_accuracy": certified}
    return Row(TABLE.cell(name), 2, 10, mean, dict.fromkeys(mean, stdev), 0.0, 1.0, 5)


ROWS = [
    row("grad-ibp", 0.9, 0.8),
    row("rgs-crown-s0.1", 0.95, 0.7),
    row("rgs-crown", 0.94, 0.75, None),
    row("rgs-crown-s0.01", 0.93, 0.6),
    row("rgs-crown-r0.1", 0.92, 0.5),
    row("rgs-crown-x4", 0.91, 0.5),
    row("rgs-ibp", 0.91, 0.79),
    replace(row("grad-crown", 0.0, 0.0), n=0, mean={}),
]


def test_a_sweep_is_of_the_noise_alone() -> None:
    found = sweeps(ROWS)
    assert {method: [r.cell.name for r in line] for method, line in found.items()} == {
        "crown": ["rgs-crown-s0.01", "rgs-crown", "rgs-crown-s0.1"]
    }


def test_points_lines_and_published_numbers() -> None:
    published = replace(ROWS[0], cell=replace(ROWS[0].cell, published=Published(natural=0.5, certified=0.4)))
    left, right = table_figure([published, *ROWS[1:]], title="T").axes
    points = [tuple(bars[0].get_xydata()[0]) for bars in left.containers]  # type: ignore[index]
    for point, shown in zip(points, ROWS[:-1], strict=True):
        assert point == pytest.approx([100 * shown.mean[f"{kind}_accuracy"] for kind in ("natural", "certified")])
    (star,) = (line for line in left.lines if line.get_marker() == "*")
    assert [float(value) for value in star.get_xydata()[0]] == [50.0, 40.0]  # type: ignore[index, call-overload]
    sigmas, certified = zip(*right.containers[0][0].get_xydata(), strict=True)  # type: ignore[index]
    assert sigmas == (0.01, 0.03, 0.1)
    assert certified == pytest.approx((60, 75, 70))
    assert len(table_figure(ROWS[:1], title="T").axes) == 1


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    save_table(ROWS, tmp_path / "a.svg", title="T")
    assert "rgs-crown-s0.01" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        save_table(ROWS, tmp_path / "none" / "a.svg", title="T")
