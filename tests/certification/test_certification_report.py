"""The arithmetic of the report, against numbers computed by hand and by SciPy."""

import hashlib
import io
import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gls_es.certification import wilson_interval
from gls_es.certification.report import CertificationReport, Verdict
from gls_es.certification.telling import line_teller

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


def test_a_printed_report_is_the_table(report: CertificationReport) -> None:
    """Counts by hand, intervals from SciPy."""
    lines = [line.split() for line in str(report).splitlines()]
    assert lines[0] == ["5", "images,", "eps", "0.1,", "float32"]
    for line, (name, count) in zip(
        lines[1:5], {"natural": 4, "adversarial": 3, "certified": 2, "unknown": 1}.items(), strict=True
    ):
        low, high = binomtest(count, 5).proportion_ci(method="wilson")
        assert line[:5] == [name, f"{count / 5:.1%}", str(count), "of", "5"]
        assert line[-3:] == [f"{low:.1%}", "to", f"{high:.1%}"]
    assert ["ibp", "3", "seen", "2", "decided", "3.00", "s"] in lines


def test_a_report_as_a_data_frame(report: CertificationReport) -> None:
    frame = report.to_dataframe()
    assert list(frame["verdict"].value_counts().sort_index()) == [2, 1, 1, 1]
    assert frame.loc[4, "reason"] == "stages"
    assert frame[frame["stage"] == "ibp"]["margin"].tolist() == [0.7, 0.2]


def test_lines_of_progress() -> None:
    stream = io.StringIO()
    tell = line_teller(stream, interval=1e9)
    tell(2, 4, {"certified": 2})
    tell(4, 4, {"certified": 3, "unknown": 0, "falsified": 1})
    assert stream.getvalue().startswith("4/4 images: 3 certified, 1 falsified; ")
    assert len(stream.getvalue().splitlines()) == 1  # the first came too early
