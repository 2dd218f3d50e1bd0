"""A short run of benchmarks/fuzz_vnnlib.py: random specifications against an evaluator in rationals."""

import importlib
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

if not FOLDER.is_dir():
    pytest.skip("the scripts are part of a checkout", allow_module_level=True)


@pytest.fixture
def fuzz_vnnlib(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("fuzz_vnnlib")


def test_random_specifications_are_decided_rightly(fuzz_vnnlib: ModuleType) -> None:
    found = fuzz_vnnlib.fuzz(count=60, seconds=60.0, seed=1, versions=(1, 2))
    assert found["wrong"] == []
    assert min(found["sat"], found["unsat"]) >= 10


def test_the_evaluator_by_hand(fuzz_vnnlib: ModuleType) -> None:
    """2 X_0 - Y_1 - 0.5 <= 3 or Y_0 != 1, at X = 1: -0.5 <= 3; at Y_1 = -3 it is 4.5."""
    left = ("-", ("*", ("number", "2"), ("X", 0)), ("Y", 1), ("number", "0.5"))
    either = ("or", ("<=", left, ("number", "3")), ("!=", ("Y", 0), ("number", "1")))
    one, three = Fraction(1), Fraction(3)
    assert fuzz_vnnlib.holds(either, [one], [one, 2 * one])
    assert not fuzz_vnnlib.holds(either, [one], [one, -three])
    assert fuzz_vnnlib.holds(either, [one], [three, -three])


def test_wrong_answers_are_noticed(fuzz_vnnlib: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked, the answer is that of a specification that nothing fulfils."""
    honest = fuzz_vnnlib.parse_vnnlib
    monkeypatch.setattr(fuzz_vnnlib, "parse_vnnlib", lambda text: honest(f"{text}(assert (<= Y_0 -1e30))"))
    found = fuzz_vnnlib.fuzz(count=30, seconds=60.0, seed=1, versions=(1,))
    assert len(found["wrong"]) >= 3
