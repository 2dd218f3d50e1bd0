"""The public suite of VNN-LIB 2, vnnlib-satisfactory, through ``gls-es verify``; skipped where it is not installed."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
registry = pytest.importorskip("vnntest.core.registry")

Run = Callable[..., Result]
_NETWORK = re.compile(r"\(declare-network\s+(\w+)(?!\s*\(equal-to)")
ENOUGH = 150
"""Of 178 tests those that are answered; the others are refused by name."""


@pytest.mark.filterwarnings("ignore")
def test_the_public_suite(run: Run, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for case in registry.get_cases(suite="full", node_type=None):
        network, query = tmp_path / f"{case.id}.onnx", tmp_path / f"{case.id}.vnnlib"
        network.write_bytes(case.build_onnx_model().SerializeToString())
        spec = case.build_vnnlib_spec()
        text = spec if isinstance(spec, str) else "\n".join(spec)
        query.write_text(text)
        given = [part for name in _NETWORK.findall(text) for part in ("--network", f"{name}={network}")]
        result = run("verify", query, *given, "--timeout", 120)
        word, expected = result.stdout.partition("\n")[0], str(case.expected_output()).lower()
        if word in ("sat", "unsat"):
            assert word == expected, case.id
        else:
            assert result.exit_code in (1, 2), (case.id, result.output)  # refused, with a reason
            assert result.stderr.startswith("Error: "), (case.id, result.output)
        outcomes["refused" if result.exit_code else word] += 1
    assert sum(outcomes.values()) >= 178
    assert outcomes["sat"] + outcomes["unsat"] >= ENOUGH, outcomes
