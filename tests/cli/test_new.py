"""A problem from the template trains, certifies, and passes its own test, as it stands."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


def test_what_is_written_trains_and_passes_its_test(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = json.loads(run("new", "my_problem", "--json").stdout)
    assert told == {"files": ["my_problem.py", "test_my_problem.py"], "problem": "my_problem.py:MyProblem"}
    done = run("train", "--problem", told["problem"], "--searcher", "rgs", "--generations", 2, "--out", "run", "--json")
    assert json.loads(done.stdout)["generations"] == 2, done.stderr
    done = run("certify", "run/checkpoint.pt", "--problem", told["problem"], "--limit", 3, "--json")
    assert json.loads(done.stdout)["n"] == 3, done.stderr
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_my_problem.py"]
    tested = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,UP,B", "--line-length", "120", "."]
    assert subprocess.run(ruff, cwd=tmp_path, capture_output=True).returncode == 0


def test_nothing_is_overwritten_and_names_are_checked(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    assert run("new", "lines", "--folder", folder).exit_code == 0
    text = (folder / "lines.py").read_text()
    assert "class Lines(" in text
    (folder / "lines.py").write_text("mine")
    again = run("new", "lines", "--folder", folder)
    assert again.exit_code == 2
    assert "is there already" in " ".join(again.stderr.split())
    assert (folder / "lines.py").read_text() == "mine"
    for wrong in ("my-problem", "class", "json", "9lives", "a/b"):
        found = run("new", wrong, "--folder", folder)
        assert found.exit_code == 2
        assert "cannot be a Python module's name" in " ".join(found.stderr.split())
