"""gls-es report, on a run that was really trained and certified."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from gls_es.training import train

Run = Callable[..., Result]


def test_a_run_with_and_without_its_images(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    train("digits-cnn3", "grad", out=folder, generations=2, method="ibp", overrides={"evaluate_images": 2})
    for start, name in ((0, "first"), (5, "later")):
        options = ("--limit", 3, "--start", start, "--eps", 0.01 * (start + 1), "--out", folder / f"{name}.jsonl")
        assert run("certify", folder / "checkpoint.pt", *options, "--quiet").exit_code == 0
    result = run("report", folder, "--json")
    assert result.exit_code == 0, result.stderr
    table = json.loads(result.stdout)
    assert table["report"] == str(folder / "report.html")
    assert [sum(counts.values()) for counts in table["runs"][0]["records"]] == [3, 3]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<h3>Images</h3>") == 1  # the later records are about other images than the first ones
    assert "later.jsonl: it is not about the first held-out ones" in result.stderr


def test_what_is_no_run_is_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run("report", tmp_path, "--out", tmp_path / "a.html")
    assert result.exit_code == 1
    assert "not a run folder (it has no config.toml)" in result.stderr
    assert run("report", tmp_path, "--out", tmp_path / "missing" / "a.html").exit_code == 2
