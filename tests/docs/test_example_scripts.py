"""The scripts in examples/ do what they say, with small settings, and stay short enough to copy."""

from __future__ import annotations

import ast
import difflib
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
Names = dict[str, Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Names]:
    """What a script defines; it runs in an empty folder, and must leave it so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVOTORCH_VERBOSE_LEVEL", "0")
    return lambda name: runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_short_and_say_how_to_run_them(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    tree = ast.parse(text)
    described = ast.get_docstring(tree)
    assert described is not None
    assert f"python examples/{script.name}" in described
    assert "seconds" in described
    assert len(text.splitlines()) <= 75
    attributes = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert not [name for name in attributes if name.startswith("_") and not name.endswith("__")]  # nothing private


def test_the_scripts_are_these() -> None:
    """Each has its test below."""
    assert [path.stem for path in SCRIPTS] == [
        "bounds_of_a_module",
        "brightness",
        "certified_script",
        "l2_balls",
        "minimise_certified_error",
        "own_module",
        "pixel_radii",
        "plain_script",
        "rgs_finetune",
        "tabular_csv",
        "train_with_evotorch",
    ]


def test_bounds_of_a_module(load: Callable[[str], Names], capsys: pytest.CaptureFixture[str]) -> None:
    names = load("bounds_of_a_module")
    shares = names["main"](steps=80, images=30)
    assert list(shares) == list(names["METHODS"])
    for found in shares.values():
        assert found == sorted(found, reverse=True)  # a larger box holds the smaller one
        assert all(best >= share for best, share in zip(shares["best"], found, strict=True))
    assert shares["best"][0] > 0.5
    assert "crown-ibp" in capsys.readouterr().out


def test_train_with_evotorch(load: Callable[[str], Names], tmp_path: Path) -> None:
    losses, report = load("train_with_evotorch")["main"](generations=60, popsize=16)
    assert len(losses) == 60
    assert losses[-1] < losses[0]
    assert report.n == 200
    assert report.natural_accuracy > 0.7
    assert report.counts["certified"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_own_module(load: Callable[[str], Names], tmp_path: Path) -> None:
    """Even a short training beats guessing by far, with proofs."""
    report = load("own_module")["main"](seconds=8.0)
    assert report.n == 360
    assert report.certified_accuracy > 0.2
    assert not list(tmp_path.iterdir())


def test_rgs_finetune(load: Callable[[str], Names]) -> None:
    before, after = load("rgs_finetune")["main"](generations=200)
    assert before.eps == after.eps == 0.03
    assert before.network != after.network
    assert before.natural_accuracy == pytest.approx(0.9694, abs=1e-4)  # the zoo's network
    gained = after.counts["certified"] - before.counts["certified"]
    assert 1 <= gained <= 12


def test_minimise_certified_error(load: Callable[[str], Names]) -> None:
    names = load("minimise_certified_error")
    errors = names["main"](generations=20, popsize=16, natural_steps=100)
    assert set(errors) == {"before", "after"}
    assert all(share * 360 == pytest.approx(round(share * 360), abs=1e-3) for share in errors.values())
    assert errors["before"] != errors["after"]  # the center moved, though the loss is flat almost everywhere
    problem = names["CertifiedError"](eps=0.05, method="crown-ibp", batch_size=8)
    weights = problem.network.parameter_vector()[None].requires_grad_()
    assert not problem.losses(weights).requires_grad  # there is no gradient to follow


def test_certified_training_is_five_changed_lines_away() -> None:
    """At most five lines of the plain script differ or are new; those of its loop are gone."""
    plain, certified = (
        (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8").partition('"""\n\nimport')[2].splitlines()
        for name in ("plain_script", "certified_script")
    )
    assert len([line for line in plain if line]) <= 20
    new = [line for line in difflib.ndiff(plain, certified) if line.startswith("+ ") and line[2:]]
    assert 2 <= len(new) <= 5


@pytest.mark.slow
def test_certified_script(tmp_path: Path) -> None:
    """It is written to be read from top to bottom, so it runs as it stands, only shorter."""
    text = (ROOT / "examples" / "certified_script.py").read_text(encoding="utf-8")
    shorter = text.replace('budget="1m"', "generations=150")
    assert shorter != text
    (tmp_path / "script.py").write_text(shorter, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EVOTORCH_VERBOSE_LEVEL": "0"}
    found = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "360 images, eps 0.05" in found.stdout


def test_tabular_csv(load: Callable[[str], Names]) -> None:
    report = load("tabular_csv")["main"](generations=100)
    assert report.n == 100
    assert report.certified_accuracy > 0.7
    assert report.radii is not None


def test_l2_balls(load: Callable[[str], Names]) -> None:
    names = load("l2_balls")
    found = names["main"](generations=60, images=30)
    assert set(found) == {(a, b) for a in names["REGIONS"] for b in names["REGIONS"]}


def test_pixel_radii(load: Callable[[str], Names]) -> None:
    reports = load("pixel_radii")["main"](generations=100, images=40)
    assert len({report.radii for report in reports.values()}) == 1
    assert all(report.eps == 0.2 for report in reports.values())


def test_brightness(load: Callable[[str], Names]) -> None:
    verdicts = load("brightness")["main"](images=6, brightness=0.1, contrast=0.1)
    assert sum(verdicts.values()) == 6
    assert verdicts["certified"] >= 4
