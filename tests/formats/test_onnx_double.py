"""Networks of float64: read with every digit, executed in float64, and never certified for float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import gls_es
from gls_es.cli.app import app
from gls_es.errors import ConfigError, UnsupportedNetworkError
from gls_es.formats import load_onnx
from gls_es.formats.runtime import OnnxRuntime
from tests.formats.hand_made import helper, model, node, numbers, numpy_helper, saved

pytest.importorskip("onnxruntime")


def _double() -> Any:
    """Classes whose weights differ behind float32's last digit."""
    first = numbers(0, 4, 5).astype(np.float64) / 3
    last = np.repeat(numbers(1, 5, 1).astype(np.float64), 2, axis=1)
    last[:, 1] -= 1e-9
    nodes = [
        node("Cast", "x", "c", to=11),
        node("MatMul", "c w", "a"),
        node("Relu", "a", "r"),
        node("Pad", "r pads tenth", "p"),
        node("Slice", "p zero five one", "s"),
        node("MatMul", "s v", "d"),
        node("Add", "d shift", "y"),
    ]
    constants = {"w": first, "v": last, "pads": np.array([0, 0, 0, 1]), "tenth": np.array(0.1), "zero": np.array([0])}
    constants |= {"five": np.array([5]), "one": np.array([1]), "shift": np.array([0.1, 0.1])}
    made = model(nodes, constants, ["N", 4])
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = 11
    return made


def test_logits_are_those_of_float64(tmp_path: Path) -> None:
    path = saved(_double(), tmp_path)
    loaded = load_onnx(path)
    assert loaded.execution == "float64"
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    theirs = OnnxRuntime(loaded.data, what="double").logits(x)
    with torch.no_grad():
        own = loaded.module(x.double())
    assert own.dtype == theirs.dtype == torch.float64
    assert float((own - theirs).abs().max()) < 1e-14
    assert bool((own[:, 0] != own[:, 1]).all())  # float32 does not tell them apart


def test_certificates_are_for_float64_alone(tmp_path: Path) -> None:
    path = saved(_double(), tmp_path)
    x = torch.full((1, 4), 0.5)
    label = load_onnx(path).module(x.double()).argmax(1)
    with pytest.raises(ConfigError, match="computes in float64"):
        gls_es.certify(path, x, label, 1e-9)
    report = gls_es.certify(path, x, label, 0.0, execution="float64")
    assert report.verdicts[0].verdict == "certified"


def test_specifications_are_decided_in_float64(tmp_path: Path) -> None:
    """One class is above the other by some 1e-9, which float32 would call a tie."""
    path = saved(_double(), tmp_path)
    x = torch.full((1, 4), 0.5)
    margin = float((load_onnx(path).module(x.double()) @ torch.tensor([1.0, -1.0], dtype=torch.float64)).item())
    lines = [f"(declare-const {name}_{i} Real)" for name, count in (("X", 4), ("Y", 2)) for i in range(count)]
    lines += [f"(assert ({op} X_{i} 0.5))" for i in range(4) for op in ("<=", ">=")]
    for op, wanted in (("<=", "sat" if margin <= 0 else "unsat"), (">=", "sat" if margin >= 0 else "unsat")):
        spec = tmp_path / "spec.vnnlib"
        spec.write_text("\n".join([*lines, f"(assert ({op} Y_0 Y_1))"]))
        result = CliRunner().invoke(app, ["certify", str(path), "--vnnlib", str(spec), "--json"])
        assert f'"{wanted}"' in result.stdout, result.output


def test_types_are_not_mixed(tmp_path: Path) -> None:
    made = _double()
    kept = [tensor for tensor in made.graph.initializer if tensor.name != "shift"]
    del made.graph.initializer[:]
    made.graph.initializer.extend([*kept, numpy_helper.from_array(np.zeros(2, dtype=np.float32), "shift")])
    made.graph.input[0].type.tensor_type.elem_type = 1
    made.graph.node[0].CopyFrom(helper.make_node("Identity", ["x"], ["c"], name="same"))
    with pytest.raises(UnsupportedNetworkError, match="float64 numbers in a network of float32"):
        load_onnx(saved(made, tmp_path))
