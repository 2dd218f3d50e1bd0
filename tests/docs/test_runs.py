"""docs/runs.md names what a run really writes, no more and no less."""

from __future__ import annotations

import json

from tests.docs.conftest import Tutorial
from tests.docs.markdown import ROOT, first_column, section

RUNS = ROOT / "docs" / "runs.md"


def test_the_columns_of_the_metrics(tutorial: Tutorial) -> None:
    lines = (tutorial.folder / "runs" / "odd" / "metrics.jsonl").read_text().splitlines()
    written = {key for line in lines for key in json.loads(line)}
    assert set(first_column(section(RUNS, "The columns of metrics.jsonl"))) == written


def test_the_files_of_a_run_are_named(tutorial: Tutorial) -> None:
    named = first_column(section(RUNS, "Runs"))
    assert {path.name for path in (tutorial.folder / "runs" / "odd").iterdir()} <= set(named)
