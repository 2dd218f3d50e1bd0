"""Paired statistics against closed forms, enumeration, and what they must mean on drawn data."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from gls_es.experiments import compare
from gls_es.experiments.paired import bootstrap_means, difference, interval, mcnemar
from gls_es.experiments.tables import Cell, Table


@pytest.mark.parametrize(("ahead", "behind"), [(0, 0), (0, 1), (5, 0), (1, 7), (4, 4), (9, 3)])
def test_mcnemar_is_the_share_of_all_ways_to_toss_that_are_as_uneven(ahead: int, behind: int) -> None:
    tosses = list(itertools.product((-1, 1), repeat=ahead + behind))
    as_uneven = sum(abs(sum(toss)) >= abs(ahead - behind) for toss in tosses)
    assert mcnemar(ahead, behind) == pytest.approx(as_uneven / len(tosses), rel=1e-12)
    assert mcnemar(behind, ahead) == mcnemar(ahead, behind)


def test_mcnemar_of_many_images_is_about_the_normal_one() -> None:
    ahead, behind = 2650, 2350
    z = (abs(ahead - behind) - 1) / math.sqrt(ahead + behind)  # with the correction for whole numbers
    assert mcnemar(ahead, behind) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert mcnemar(3000, 0) == pytest.approx(0.0, abs=1e-300)


VALUES = torch.tensor([[1.0, 0.0, -1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)


def test_the_bootstrap_is_that_of_all_resamples() -> None:
    """Two seeds and three images have 4 x 27 resamples; every mean comes as often as it should."""
    exact: dict[float, float] = {}
    for seeds in itertools.product(range(2), repeat=2):
        for images in itertools.product(range(3), repeat=3):
            mean = round(float(VALUES[list(seeds)][:, list(images)].mean()), 9)
            exact[mean] = exact.get(mean, 0.0) + 1 / 108
    count = 40_000
    drawn = [round(value, 9) for value in bootstrap_means(VALUES, count).tolist()]
    assert set(drawn) == set(exact)
    for mean, share in exact.items():
        error = math.sqrt(share * (1 - share) / count)
        assert drawn.count(mean) / count == pytest.approx(share, abs=4.5 * error)


def test_the_interval_of_one_seed_is_about_the_normal_one() -> None:
    """p = 0.3 of 2,000 images: half of the width is 1.96 standard errors; with the ends' own error, 2.5 %."""
    values = torch.zeros(1, 2000, dtype=torch.float64)
    values[0, :600] = 1.0
    low, high = interval(values)
    error = math.sqrt(0.3 * 0.7 / 2000)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.08)
    assert (low + high) / 2 == pytest.approx(0.3, abs=0.2 * error)
    assert interval(values) == (low, high)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Every image agrees within a seed: all that varies are the seeds, whose means are +1 and -1."""
    values = torch.ones(2, 50, dtype=torch.float64)
    values[1] = -1.0
    assert interval(values) == (-1.0, 1.0)
    assert interval(torch.ones(2, 50, dtype=torch.float64)) == (1.0, 1.0)


def test_a_difference_counts_an_image_once_whatever_the_seeds() -> None:
    own = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1]], dtype=torch.bool)
    other = torch.tensor([[0, 0, 0, 1], [0, 1, 0, 1]], dtype=torch.bool)
    found = difference(own, other)  # +2, 0, 0, -1 images
    assert (found.ahead, found.behind, found.mean) == (1, 1, pytest.approx(1 / 8))
    assert found.p == 1.0
    assert found.low <= found.mean <= found.high


TABLE = Table(
    "t",
    "T",
    "digits-cnn3",
    0.1,
    (
        Cell("grad-ibp", "grad", "ibp"),
        Cell("grad-crown", "grad", "crown"),
        Cell("rgs-crown", "rgs", "crown"),
        Cell("pgpe-crown", "pgpe", "crown"),
        Cell("grad-crown-from-ibp", "grad", "crown", start="grad-ibp"),
        Cell("grad-sabr", "grad", "ibp", {"loss": "sabr"}, kind="baseline"),
    ),
)


def _run(cell: str, outcomes: str, seed: int = 0) -> dict[str, Any]:
    return {"cell": cell, "seed": seed, "outcomes": outcomes}


def test_cells_are_compared_with_the_best_one_of_gradients_alone() -> None:
    runs = [
        _run("grad-ibp", "ccfm"), _run("grad-ibp", "ccum", 1), _run("grad-crown", "cccu"),
        _run("grad-crown", "cffm", 1),
        _run("rgs-crown", "cccm", 1), _run("rgs-crown", "cccc", 2), _run("grad-sabr", "cccc"),
        _run("grad-crown-from-ibp", "cccc"), {"cell": "pgpe-crown", "seed": 0},
    ]  # fmt: skip
    found = {comparison.cell: comparison for comparison in compare(TABLE, runs)}
    assert list(found) == ["grad-crown", "rgs-crown", "grad-crown-from-ibp", "grad-sabr"]
    assert {comparison.reference for comparison in found.values()} == {"grad-ibp"}
    own = found["rgs-crown"]
    assert (own.seeds, own.images) == ((1,), 4)  # seed 2 has no counterpart
    assert (own.certified.mean, own.certified.ahead, own.certified.behind) == (0.25, 1, 0)
    assert (own.natural.mean, own.natural.ahead, own.natural.behind) == (0.0, 0, 0)
    assert found["grad-crown"].natural.mean == pytest.approx(1 / 8)  # an unknown image is classified, not certified
    assert found["grad-crown"].certified.mean == 0.0


def test_without_a_cell_of_gradients_nothing_is_compared() -> None:
    assert compare(TABLE, [_run("rgs-crown", "cc"), _run("pgpe-crown", "cm")]) == []
    assert compare(TABLE, [_run("grad-ibp", "cc")]) == []
