"""A few random modules: certificates hold on the executed module, and refusing is not the usual answer."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_random_modules_are_refused_or_their_certificates_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz_modules

    result = fuzz_modules.fuzz(60.0, 3, most=12)
    sys.modules.pop("fuzz_modules")
    assert result["contradictions"] == 0, result["examples"]
    assert 2 * result["read"] >= result["modules"] > 0
    assert result["certified"] > 0
