"""gls-es problems."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

Run = Callable[..., Result]
WIDE = {"env": {"COLUMNS": "160"}}


def test_the_table_names_them_all(run: Run, listed: Any) -> None:
    result = run("problems", **WIDE)
    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["name", "parameters", "eps", "data", "s/generation", "what", "it", "is"]
    assert [row.split()[0] for row in rows] == ["bare", "digits-cnn3"]
    assert "1,258  0.1, 8/255  digits (missing)" in rows[1]
    assert "0.25 / 120" in rows[1]
    assert "Handwritten digits [8x8]" in rows[1]


def test_a_broken_one_is_one_line_of_warning(run: Run, listed: Any) -> None:
    result = run("problems")
    warning, missing = result.stderr.replace("\nmissing", "\0missing").split("\0")
    said = "Warning: the problem 'broken' (other.package:Class) does not load: No module named 'other'"
    assert " ".join(warning.split()) == said
    assert missing == "missing: digits are missing: get them.\n"
    assert "broken" not in result.stdout


def test_json(run: Run, listed: Any) -> None:
    result = run("problems", "--json")
    bare, digits = json.loads(result.stdout)["problems"]
    assert digits == {
        "name": "digits-cnn3",
        "target": "gls_es.problems.digits:DigitsCNN3",
        "summary": "Handwritten digits [8x8]",
        "parameters": 1258,
        "eps": 0.1,
        "radii": [0.1, 8 / 255],
        "data": "digits",
        "data_found": None,
        "data_missing": "digits are missing: get them.",
        "seconds": {"pgpe": 0.25, "grad": 120.0},
    }
    assert bare["parameters"] is None


def test_the_built_in_problems_with_and_without_their_data(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    """Files are looked for, not read: here they are empty."""
    monkeypatch.delenv("GLS_ES_DATA", raising=False)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, kind in (("train", "images-idx3"), ("train", "labels-idx1"), ("t10k", "images-idx3")):
        (folder / f"{part}-{kind}-ubyte").touch()
    rows = {row["name"]: row for row in json.loads(run("problems", "--json", "--data", tmp_path).stdout)["problems"]}
    assert "MNIST lacks t10k-labels-idx1-ubyte" in rows["mnist-cnn3"]["data_missing"]
    assert rows["digits-cnn3"]["data_found"] == "built in"
    (folder / "t10k-labels-idx1-ubyte.gz").touch()
    rows = {row["name"]: row for row in json.loads(run("problems", "--json", "--data", tmp_path).stdout)["problems"]}
    assert rows["mnist-cnn3"]["data_found"] == str(folder)
    assert rows["mnist-cnn3"]["data_missing"] is None
    assert "cifar-10-binary.tar.gz" in rows["cifar-cnn7"]["data_missing"]
    assert rows["cifar-cnn7"]["parameters"] == 17_192_650
    assert set(rows["cifar-cnn7"]["seconds"]) == {"pgpe", "rgs", "grad"}
    assert all(seconds > 0 for row in rows.values() for seconds in row["seconds"].values())
