"""The tables of docs/concepts.md name what the program really writes, no more and no less."""

from __future__ import annotations

import json

import pytest
import torch

from gls_es import bounds
from gls_es.certification.execution import DTYPES
from gls_es.certification.report import VERDICTS, Verdict
from tests.docs.conftest import Tutorial, invoke
from tests.docs.markdown import ROOT, first_column, prose, section

CONCEPTS = ROOT / "docs" / "concepts.md"


def test_the_relaxations() -> None:
    table = first_column(section(CONCEPTS, "The relaxations").split("Tighter is better")[0])
    assert sorted(set(table) - {"method="}) == sorted(bounds.METHODS)


def test_verdicts_and_execution_models() -> None:
    named = first_column(section(CONCEPTS, "What a certificate means"))
    assert named == [*VERDICTS, "execution", *DTYPES]


@pytest.fixture(scope="module")
def certified(tutorial: Tutorial) -> tuple[dict, dict, list[dict]]:
    """What ``certify --json --out`` prints, the header it writes, and the records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tutorial.folder)
        command = "gls-es certify runs/odd-rgs/checkpoint.pt --limit 30 --eps 0.3 --json --quiet --out records.jsonl"
        result = invoke(command)
        assert result.exit_code == 0, result.stderr
        header, *records = map(json.loads, (tutorial.folder / "records.jsonl").read_text().splitlines())
    return json.loads(result.stdout), header, records


def test_the_fields_of_the_summary(certified: tuple[dict, dict, list[dict]]) -> None:
    summary, _, _ = certified
    assert first_column(section(CONCEPTS, "The fields of certify --json")) == list(summary)
    assert all(list(stage) == ["seen", "decided", "seconds"] for stage in summary["stages"].values())


def test_the_fields_of_the_records(certified: tuple[dict, dict, list[dict]]) -> None:
    _, header, records = certified
    assert set(first_column(section(CONCEPTS, "The header"))) == set(header)
    assert all(first_column(section(CONCEPTS, "A record")) == list(record) for record in records)
    example = Verdict(0, 1, 1, "falsified", "attack", -0.5, torch.zeros(1, 8, 8)).to_json()["counterexample"]
    row = next(line for line in section(CONCEPTS, "A record").splitlines() if line.startswith("| `counterexample`"))
    assert all(f"`{key}`" in row for key in example)


def test_sources_are_named() -> None:
    text = prose(CONCEPTS)
    assert all(
        source in text for source in ("arXiv 2102.06700", "arXiv 2403.07095", "Higham 2002", "Sehnke et al. 2010")
    )
