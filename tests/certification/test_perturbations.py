"""Radii of pixels, and L2 balls: certified where a closed form says so, and never where a point of the region shows
otherwise."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from certification_nets import QUICK, numpy_least_margin, random_linear, relu_net
from torch import Tensor, nn

from gls_es import Network, certify
from gls_es.certification.round import ball_margins, in_ball
from gls_es.errors import ConfigError, DataError

PIXELS = 9
EXAMPLES = 60
EPS = 0.2


def images_of(net: nn.Module, n: int = EXAMPLES, seed: int = 1) -> tuple[Tensor, Tensor]:
    images = torch.rand(n, PIXELS, generator=torch.Generator().manual_seed(seed))
    return images, net(images).argmax(1)


def radii(seed: int = 5) -> Tensor:
    drawn = 0.1 * torch.rand(PIXELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn[::3] = 0.0
    return drawn


def rows_of(net: nn.Sequential, label: int) -> tuple[list[list[Fraction]], list[Fraction]]:
    """The margins' coefficients and constants, as exact numbers."""
    weight, bias = ([[Fraction(v) for v in row] for row in net[1].weight.tolist()], net[1].bias.tolist())
    others = [j for j in range(len(weight)) if j != label]
    rows = [[a - b for a, b in zip(weight[label], weight[j], strict=True)] for j in others]
    return rows, [Fraction(bias[label]) - Fraction(bias[j]) for j in others]


def at_image(row: list[Fraction], constant: Fraction, image: Tensor) -> Fraction:
    return constant + sum((a * Fraction(x) for a, x in zip(row, image.tolist(), strict=True)), Fraction(0))


@pytest.mark.parametrize("stages", [("ibp",), ("attack", "crown")])
def test_radii_of_pixels_are_decided_by_the_exact_margin(stages: tuple[str, ...]) -> None:
    """min of a z + b is a x + b - sum |a_i| e_i; no box is cut off, and 1e-5 is left to rounding."""
    net, eps = random_linear(2, pixels=PIXELS, classes=4), radii()
    images, labels = images_of(net)
    report = certify(net, images, labels, eps, stages=stages, clip=False, attack=QUICK)
    assert report.eps == float(eps.max())
    seen = set()
    for verdict, image in zip(report.verdicts, images, strict=True):
        rows, constants = rows_of(net, verdict.label)
        reach = [sum(abs(a) * Fraction(e) for a, e in zip(row, eps.tolist(), strict=True)) for row in rows]
        exact = min(at_image(r, c, image) - d for r, c, d in zip(rows, constants, reach, strict=True))
        if abs(exact) > 1e-5:
            assert (verdict.verdict == "certified") == (exact > 0)
        if verdict.margin is not None and verdict.verdict == "certified":
            assert Fraction(verdict.margin) <= exact  # tolerance 0
        seen.add(verdict.verdict)
        if verdict.counterexample is not None:
            moved = [abs(Fraction(a) - Fraction(b)) for a, b in zip(verdict.counterexample.tolist(), image.tolist(), strict=True)]  # fmt: skip # noqa: E501
            assert all(m <= Fraction(e) for m, e in zip(moved, eps.tolist(), strict=True))
    assert "certified" in seen
    assert len(seen) > 1


def test_equal_radii_are_one_radius() -> None:
    net = relu_net(4, (PIXELS, 16, 3))
    images, labels = images_of(net, 12)
    one = certify(net, images, labels, 0.07, attack=QUICK, max_domains=20)
    each = certify(net, images, labels, torch.full((PIXELS,), 0.07, dtype=torch.float64), attack=QUICK, max_domains=20)
    assert [(v.verdict, v.stage, v.margin) for v in one.verdicts] == [(v.verdict, v.stage, v.margin) for v in each.verdicts]  # fmt: skip # noqa: E501
    assert one.radii is None
    assert each.radii is not None


def test_channels_are_told_from_columns() -> None:
    """(C,) radii are channels' also where images are as wide: only the second channel may change."""
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(64, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    report = certify(conv, images, conv(images).argmax(1), [0.0, 1.0, 0.0], attack=QUICK, stages=("attack",))
    for verdict, image in zip(report.verdicts, images, strict=True):
        if verdict.counterexample is not None:
            assert torch.equal(verdict.counterexample[[0, 2]], image[[0, 2]])
            assert verdict.became == int(conv(verdict.counterexample[None]).argmax()) != verdict.label
        else:
            assert verdict.became is None
    assert report.counts["falsified"] > 0


@pytest.mark.parametrize("eps", [EPS, 1.25])
def test_linear_networks_on_l2_balls(eps: float) -> None:
    """min of a z + b is a x + b - eps ||a||, computed in decimals: margins stay below it with tolerance 0."""
    net = random_linear(3, pixels=PIXELS, classes=4)
    images, labels = images_of(net)
    report = certify(net, images, labels, eps, norm="l2", clip=False)
    proven = ball_margins(Network(net, (PIXELS,)), images, labels, "ibp", eps=eps, execution="real")
    with localcontext() as context:
        context.prec = 60
        for index, (verdict, image) in enumerate(zip(report.verdicts, images, strict=True)):
            rows, constants = rows_of(net, verdict.label)
            exact = []
            for row, constant in zip(rows, constants, strict=True):
                value, square = at_image(row, constant, image), sum((a * a for a in row), Fraction(0))
                root = (Decimal(square.numerator) / Decimal(square.denominator)).sqrt()
                exact.append(Decimal(value.numerator) / Decimal(value.denominator) - Decimal(eps) * root)
            if abs(min(exact)) > Decimal("1e-4"):
                assert verdict.verdict == ("certified" if min(exact) > 0 else "falsified")
            assert all(Decimal(m) <= e for m, e in zip(proven[index].tolist(), exact, strict=True))
            if verdict.verdict == "certified":
                assert verdict.margin is not None
                assert Decimal(verdict.margin) <= min(exact)
    assert report.counts["falsified"] > 3
    assert report.counts["certified"] > 3 or eps > 1


@pytest.mark.parametrize("clip", [True, False])
def test_no_point_of_an_l2_ball_contradicts_a_certificate(clip: bool) -> None:
    net = relu_net(4, (PIXELS, 16, 3))
    images, labels = images_of(net, 30)
    report = certify(net, images, labels, "3/10", norm="l2", clip=clip, attack=QUICK)
    rng = np.random.default_rng(0)
    for verdict, image in zip(report.verdicts, images.double().numpy(), strict=True):
        if verdict.verdict == "certified":
            u = rng.standard_normal((4000, PIXELS))
            points = image + 0.3 * u / np.linalg.norm(u, axis=1, keepdims=True)
            assert numpy_least_margin(net, points, verdict.label).min() > 0
        if verdict.counterexample is not None:
            moved = [Fraction(a) - Fraction(b) for a, b in zip(verdict.counterexample.tolist(), image.tolist(), strict=True)]  # fmt: skip # noqa: E501
            assert sum(m * m for m in moved) <= Fraction(0.3) ** 2
            if clip:
                assert 0 <= float(verdict.counterexample.min()) <= float(verdict.counterexample.max()) <= 1
            point = verdict.counterexample.double().numpy()[None]
            assert numpy_least_margin(net, point, verdict.label)[0] <= 1e-6
    assert min(report.counts["certified"], report.counts["falsified"]) > 3
    assert (report.norm, report.to_json()["norm"]) == ("l2", "l2")
    assert "eps 0.3 in L2" in str(report)


def test_the_rim_of_an_l2_ball_is_not_left() -> None:
    centre = torch.zeros(1, 4)
    points = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5000001], [0.5, 0.5, 0.5, 0.4999], [0.0] * 4])
    found = in_ball(points, centre, eps=1.0, clip=True)
    assert found.tolist() == [False, False, True, True]  # on the rim itself no answer is given
    assert in_ball(centre, centre, eps=0.0, clip=True).tolist() == [True]


@pytest.mark.parametrize("other", [{"eps": radii(6)}, {"eps": 0.1}, {"eps": 0.1, "norm": "l2"}])
def test_records_of_one_region_are_not_continued_for_another(tmp_path: Path, other: dict[str, Any]) -> None:
    net = relu_net(4, (PIXELS, 16, 3))
    images, labels = images_of(net, 4)
    path = tmp_path / "r.jsonl"
    arguments: dict[str, Any] = {"attack": QUICK, "stages": ("attack", "ibp"), "records": path}
    certify(net, images, labels, radii(), **arguments)
    header = json.loads(path.read_text().splitlines()[0])
    assert "radii" in json.dumps(header)
    with pytest.raises(DataError, match="another run"):
        certify(net, images, labels, **(arguments | other))
    certify(net, images, labels, radii(), **arguments)  # the same once more


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"norm": "l2", "stages": ("attack", "alpha")}, "'alpha' knows no L2 balls"),
        ({"norm": "l2", "eps": radii()}, "one radius"),
        ({"eps": torch.full((3,), 0.1)}, "does not fit"),
    ],
)
def test_regions_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    net = relu_net(4, (PIXELS, 16, 3))
    images, labels = images_of(net, 2)
    with pytest.raises(ConfigError, match=words):
        certify(net, images, labels, **({"eps": 0.1} | options))
