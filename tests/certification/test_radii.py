"""Certified radii: bisection against a scan of the whole grid, resuming after any line, and the curves."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from certification_nets import QUICK, linear_problem, relu_net
from torch import Tensor, nn

from gls_es.certification import CertificationReport, certified_radii, certify, radii
from gls_es.certification.curves import Curve, save_curve
from gls_es.certification.radii import RadiusReport
from gls_es.errors import ConfigError, DataError

OPTIONS: dict[str, Any] = {"stages": ("attack", "ibp", "crown"), "attack": QUICK}


def _problem(n: int = 12) -> tuple[nn.Module, Tensor, Tensor]:
    net = relu_net(4, (9, 16, 3))
    images = torch.rand(n, 3, 3, generator=torch.Generator().manual_seed(1))
    labels = net(images).argmax(1)
    labels[::5] = (labels[::5] + 1) % 3
    return net, images, labels


def test_bisection_finds_what_a_scan_of_the_grid_finds() -> None:
    """Crown's bounds fall with the radius here, so the last certified grid point is the largest one."""
    net, images, labels = _problem()
    tolerance, points = 1 / 64, 16
    report = certified_radii(net, images, labels, tolerance=tolerance, largest=0.25, **OPTIONS)
    scan = [certify(net, images, labels, k * tolerance, **OPTIONS).verdicts for k in range(points + 1)]
    for image in report.images:
        verdicts = [row[image.index].verdict for row in scan]
        certified = [k for k, verdict in enumerate(verdicts) if verdict == "certified"]
        assert certified == list(range(len(certified)))
        assert image.radius == (certified[-1] * tolerance if certified else None)
        if verdicts[0] == "misclassified":
            assert (image.falsified, image.uncertified) == (0.0, 0.0)
        elif image.uncertified is not None:
            assert image.uncertified == (certified[-1] + 1) * tolerance
    assert len({image.radius for image in report.images}) > 3


def test_the_value_reported_is_the_value_certified() -> None:
    net, images, labels = _problem()
    report = certified_radii(net, images, labels, tolerance=0.01, largest=0.3, **OPTIONS)
    for image in report.images:
        if image.radius is not None:
            chosen = slice(image.index, image.index + 1)
            again = certify(net, images[chosen], labels[chosen], image.radius, stages=("ibp", "crown"))
            assert again.verdicts[0].verdict == "certified"
            assert again.verdicts[0].margin == pytest.approx(image.margin)


def test_a_linear_network_is_exact_up_to_the_tolerance() -> None:
    net, images, labels = linear_problem()
    report = certified_radii(net, images, labels, tolerance=1 / 128, largest=0.5, **OPTIONS)
    for image in report.images:
        if image.radius is not None and image.uncertified is not None:
            assert image.uncertified - image.radius == 1 / 128
            assert image.falsified is None or image.falsified >= image.uncertified
    assert sum(image.radius is None for image in report.images) >= 4  # every tenth label is wrong


def _plain(report: RadiusReport) -> Any:
    table = report.to_json()
    return {key: value for key, value in table.items() if key != "seconds"}


def test_a_killed_run_goes_on_to_the_same_report(tmp_path: Path) -> None:
    net, images, labels = _problem(8)
    arguments: dict[str, Any] = {"tolerance": 1 / 32, "largest": 0.25, "stages": ("crown",)}
    whole = certified_radii(net, images, labels, records=tmp_path / "whole.jsonl", **arguments)
    content = (tmp_path / "whole.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) > 5
    for kept in range(len(lines)):
        torn = lines[kept][: len(lines[kept]) // 2]
        (tmp_path / "part.jsonl").write_bytes(b"".join(lines[:kept]) + torn)
        resumed = certified_radii(net, images, labels, records=tmp_path / "part.jsonl", **arguments)
        assert _plain(resumed) == _plain(whole)
        assert len((tmp_path / "part.jsonl").read_bytes().splitlines()) == len(lines)


def test_another_run_is_refused_and_the_file_is_kept(tmp_path: Path) -> None:
    net, images, labels = _problem(4)
    path = tmp_path / "r.jsonl"
    certified_radii(net, images, labels, records=path, tolerance=0.1, **OPTIONS)
    before = path.read_bytes()
    with pytest.raises(DataError, match="another run"):
        certified_radii(net, images, labels, records=path, tolerance=0.05, **OPTIONS)
    with pytest.raises(DataError, match="another run"):
        certified_radii(relu_net(5, (9, 16, 3)), images, labels, records=path, tolerance=0.1, **OPTIONS)
    assert path.read_bytes() == before
    path.write_bytes(before.splitlines(keepends=True)[0] + b'[{"index": 99}]\n')
    with pytest.raises(DataError, match="line 2 is damaged"):
        certified_radii(net, images, labels, records=path, tolerance=0.1, **OPTIONS)
    for foreign in (b"{}\n", b"text", b"[1]\n"):
        path.write_bytes(foreign)
        with pytest.raises(DataError, match="not a file of radii"):
            certified_radii(net, images, labels, records=path, tolerance=0.1, **OPTIONS)
        assert path.read_bytes() == foreign


@pytest.mark.parametrize(
    "grid", [{"tolerance": 0.0}, {"tolerance": 2.0}, {"largest": 0.0}, {"tolerance": 1e-9}, {"tolerance": 0.6}]
)
def test_grids_that_make_no_sense(grid: dict[str, float]) -> None:
    net, images, labels = _problem(1)
    with pytest.raises(ConfigError):
        certified_radii(net, images, labels, **grid, **OPTIONS)


def test_curves_count_what_the_reports_say(tmp_path: Path) -> None:
    net, images, labels = _problem()
    radii = certified_radii(net, images, labels, tolerance=1 / 64, largest=0.125, **OPTIONS)
    reports = [certify(net, images, labels, eps, **OPTIONS) for eps in (2 / 64, 5 / 64)]
    points, steps = Curve.of_reports(reports[::-1]), Curve.of_radii(radii)
    assert points.eps == (2 / 64, 5 / 64)
    for eps, certified, standing, report in zip(points.eps, points.certified, points.standing, reports, strict=True):
        assert certified == report.counts["certified"] == radii.certified_at(eps)
        assert standing == round(report.adversarial_accuracy * report.n)
    assert list(steps.certified) == sorted(steps.certified, reverse=True)
    assert all(a <= b for a, b in zip(steps.certified, steps.standing, strict=True))
    assert steps.certified[0] <= radii.to_json()["natural_accuracy"] * radii.n
    for name, start in (("c.png", b"\x89PNG"), ("c.svg", b"<?xml"), ("c.pdf", b"%PDF")):
        save_curve(steps, tmp_path / name, title="a net")
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ConfigError, match="ends in"):
        save_curve(points, tmp_path / "c.txt", title="a net")
    with pytest.raises(DataError, match="cannot be written"):
        save_curve(points, tmp_path / "nowhere" / "c.png", title="a net")


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, 2.0), ({"timeout": 7.0}, 7.0), ({"max_domains": 5}, None), ({"timeout": None, "max_domains": None}, 2.0)],
)
def test_the_search_is_short_at_each_radius_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], expected: float | None
) -> None:
    seen = []

    def watched(*args: Any, **options: Any) -> CertificationReport:
        seen.append(options.get("timeout"))
        return certify(*args, **options)

    monkeypatch.setattr(radii, "certify", watched)
    certified_radii(*_problem(2), tolerance=0.05, largest=0.1, **OPTIONS, **given)
    assert set(seen) == {expected}


def test_the_report_is_plain_json() -> None:
    net, images, labels = _problem(3)
    report = certified_radii(net, images, labels, tolerance=0.1, **OPTIONS)
    table = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert table["n"] == 3
    assert [image["index"] for image in table["images"]] == [0, 1, 2]
    assert table["mean_radius"] >= 0


def test_progress_counts_the_radii_and_comes_to_its_end() -> None:
    """After every step tried + left can only shrink, since left is the most there may be; at last nothing is left."""
    net, images, labels = _problem(6)
    told: list[tuple[int, int, dict[str, int]]] = []
    certified_radii(net, images, labels, tolerance=1 / 64, progress=lambda *x: told.append(x), **OPTIONS)
    wholes = [counts["radii tried"] + counts["radii left"] for _, _, counts in told]
    assert wholes == sorted(wholes, reverse=True)
    assert wholes[0] <= 6 * 6  # 34 grid intervals, halved
    assert all(before[2]["radii tried"] < after[2]["radii tried"] for before, after in itertools.pairwise(told))
    assert told[-1][:2] == (6, 6)
    assert told[-1][2]["radii left"] == 0


def test_without_stages_no_branch_and_bound_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def noted(*arguments: Any, **options: Any) -> CertificationReport:
        given.append(options["stages"])
        return certify(*arguments, **(options | OPTIONS))

    monkeypatch.setattr(radii, "certify", noted)
    net, images, labels = _problem(2)
    certified_radii(net, images, labels, tolerance=1 / 8)
    assert given
    assert all("bab" not in stages and "alpha" in stages for stages in given)
