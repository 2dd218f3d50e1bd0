"""The arithmetic of the report, against numbers computed by hand and by SciPy."""

import hashlib
import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gls_es.certification import wilson_interval
from gls_es.certification.report import CertificationReport, Verdict

EXAMPLE = torch.tensor([[0.5, 1.0]])
CLEAN = {"clean": 0.25}
ATTACK = {"clean": 0.25, "attack": 0.5}
ALL = {"clean": 0.25, "attack": 0.5, "ibp": 1.0}


@pytest.fixture
def report() -> CertificationReport:
    verdicts = (
        Verdict(0, 3, 1, "misclassified", "clean", -0.5, None, CLEAN),
        Verdict(1, 2, 2, "falsified", "attack", -0.1, EXAMPLE, ATTACK),
        Verdict(2, 4, 4, "certified", "ibp", 0.7, None, ALL),
        Verdict(3, 4, 4, "certified", "ibp", 0.2, None, ALL),
        Verdict(4, 1, 1, "unknown", None, -0.3, None, ALL, "stages"),
    )
    return CertificationReport(
        verdicts=verdicts,
        eps=0.1,
        stage_names=("attack", "ibp", "crown"),
        execution="float32",
        clip=True,
        checkpoint=None,
        network="00",
        versions={"torch": "x"},
    )


def test_accuracies_and_counts(report: CertificationReport) -> None:
    assert report.n == 5
    assert report.natural_accuracy == 4 / 5
    assert report.adversarial_accuracy == 3 / 5
    assert report.certified_accuracy == 2 / 5
    assert report.unknown == 1
    assert report.counts == {"misclassified": 1, "falsified": 1, "certified": 2, "unknown": 1}
    assert report.seconds == pytest.approx(0.25 + 0.75 + 3 * 1.75)


def test_stages_in_cascade_order(report: CertificationReport) -> None:
    assert list(report.stages) == ["clean", "attack", "ibp", "crown"]
    assert [(s.seen, s.decided) for s in report.stages.values()] == [(5, 1), (4, 1), (3, 2), (0, 0)]
    assert [s.seconds for s in report.stages.values()] == [1.25, 2.0, 3.0, 0.0]


def test_json_is_plain_and_complete(report: CertificationReport) -> None:
    table = json.loads(json.dumps(report.to_json(verdicts=True), allow_nan=False))
    assert table["n"] == 5
    assert table["eps"] == 0.1
    assert table["certified_accuracy"] == 0.4
    assert table["unknown"] == 1
    assert table["stages"]["ibp"] == {"seen": 3, "decided": 2, "seconds": 3.0}
    assert [image["verdict"] for image in table["images"]] == [v.verdict for v in report.verdicts]
    assert table["intervals_95"]["certified_accuracy"] == list(wilson_interval(2, 5))
    assert "images" not in report.to_json()


def test_hash_is_of_the_little_endian_float32_values(report: CertificationReport) -> None:
    assert report.verdicts[1].sha256 == hashlib.sha256(struct.pack("<2f", 0.5, 1.0)).hexdigest()
    assert report.verdicts[0].sha256 is None


def test_wilson_known_values() -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I: 81/263, 15/148, 0/20, 1/29."""
    for successes, n, lower, upper in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        found = wilson_interval(successes, n)
        assert found == pytest.approx((lower, upper), abs=5e-5)


@given(n=st.integers(1, 10_000), data=st.data())
def test_wilson_against_scipy(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    lower, upper = wilson_interval(successes, n)
    assert (lower, upper) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= lower <= successes / n <= upper <= 1
