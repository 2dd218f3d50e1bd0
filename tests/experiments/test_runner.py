from __future__ import annotations

import json
from pathlib import Path

import pytest

from gls_es.errors import DataError
from gls_es.experiments import aggregate, make_plan, markdown, read_results, run_plan
from gls_es.experiments.tables import Cell, Published, Table
from gls_es.training.lock import FolderLock

from .test_plan import TOY


def _finished(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/result.json")}


def test_runs_are_trained_certified_and_filed_once(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, seeds=1, limit=4)
    written = run_plan(TOY, plan, tmp_path)
    assert sorted(path.parent.name for path in written) == ["grad-ibp-seed0", "pgpe-ibp-seed0"]
    results = read_results(tmp_path)
    assert [r["certification"]["n"] for r in results] == [4, 4]
    assert [r["training"]["generations"] for r in results] == [2, 2]
    before = _finished(tmp_path)
    assert run_plan(TOY, plan, tmp_path) == []
    assert _finished(tmp_path) == before


def test_a_run_that_lost_its_result_goes_on_from_its_records(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    (path,) = run_plan(TOY, plan, tmp_path)
    before = json.loads(path.read_text())
    path.unlink()
    (again,) = run_plan(TOY, plan, tmp_path)
    after = json.loads(again.read_text())
    assert after["certification"] == before["certification"]  # times, too: nothing was decided anew
    assert after["training"]["generations"] == 2
    assert after["training"]["cpu_seconds"] is None


def test_a_run_in_other_hands_is_skipped(tmp_path: Path) -> None:
    plan = make_plan(TOY, tmp_path, cells=["grad-ibp"], seeds=1, limit=4)
    (tmp_path / "grad-ibp-seed0").mkdir()
    lock = FolderLock(tmp_path / "grad-ibp-seed0" / ".lock")
    said: list[str] = []
    try:
        assert run_plan(TOY, plan, tmp_path, say=said.append) == []
    finally:
        lock.release()
    assert said == ["grad-ibp-seed0: another process works on it"]


def test_a_damaged_result_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "grad-ibp-seed0").mkdir()
    (tmp_path / "grad-ibp-seed0" / "result.json").write_text("{")
    with pytest.raises(DataError, match=r"result\.json: cannot be read"):
        read_results(tmp_path)


def _result(cell: str, certified: float, unknown: int = 0) -> dict[str, object]:
    summary = {"n": 10, "natural_accuracy": 0.9, "adversarial_accuracy": 0.8, "certified_accuracy": certified}
    return {
        "cell": cell,
        "certification": {**summary, "unknown": unknown},
        "training": {"cpu_seconds": 60.0, "generations": 7},
    }


def test_rows_are_means_and_sample_deviations_over_seeds() -> None:
    table = Table("t", "T", "digits-cnn3", 0.1, (Cell("a", "grad", "ibp"), Cell("b", "rgs", "ibp")))
    first, second = aggregate(table, [_result("a", 0.5, unknown=1), _result("a", 0.7, unknown=3)])
    assert (first.n, first.mean["certified_accuracy"], first.unknown) == (2, pytest.approx(0.6), pytest.approx(0.2))
    assert first.stdev["certified_accuracy"] == pytest.approx(0.02**0.5)  # ((0.1)² + (0.1)²) / (2 - 1)
    assert first.stdev["natural_accuracy"] == 0.0
    assert (second.n, dict(second.mean)) == (0, {})


def test_the_table_stands_beside_the_published_numbers() -> None:
    cell = Cell("a", "grad", "ibp", published=Published(natural=0.4805, certified=0.3769))
    table = Table("t", "T", "digits-cnn3", 0.1, (cell,))
    text = markdown(table, aggregate(table, [_result("a", 0.5)]))
    assert "| a | 90.0 | 80.0 | 50.0 | 0 | 1 | 7 | 60 | 48.05 / 37.69 |" in text
    assert "| a | - | - | - | - | 0 | - | - | 48.05 / 37.69 |" in markdown(table, aggregate(table, []))
