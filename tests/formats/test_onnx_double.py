"""Networks of float64: read with every digit, executed in float64, and never certified for float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import gls_es
from gls_es.cli.app import app
from gls_es.errors import ConfigError, FormatError, UnsupportedNetworkError
from gls_es.formats import load_onnx
from gls_es.formats.onnx_graph import read_onnx
from gls_es.formats.onnx_reading import module_of
from gls_es.formats.runtime import OnnxRuntime, check_same_logits
from tests.formats.hand_made import helper, model, node, numbers, numpy_helper, onnx, saved

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
    return _in_double(model(nodes, constants, ["N", 4]))


def _in_double(made: Any) -> Any:
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


_TENTH = {"tenth": np.array(0.1), "pads": np.array([0, 1, 0, 0]), "holes": np.array([[True, False, True]])}
_TENTH |= {
    "row": np.array([[0.1, 0.2]]),
    "g": np.ones(3),
    "m": np.array([0.0, 0.1, 0.2]),
    "v": np.array([0.0, 1.0, 1e-6]),
}
_TENTH |= {"far": np.array(-1e9 / 3), "most": np.array(3.4028234663852886e38)}
NUMBERS = {
    "border": node("Pad", "x pads tenth", "y"),
    "border of an attribute": node("Pad", "x", "y", pads=[0, 1, 0, 0], value=0.1),
    "choice": node("Where", "holes x tenth", "y"),
    "choice of the other": node("Where", "holes tenth x", "y"),
    "joined": node("Concat", "row x", "y", axis=1),
    "normalisation": node("BatchNormalization", "x g m m v", "y"),
    "slope": node("LeakyRelu", "x", "y"),
    "limit": node("Min", "x tenth", "y"),
    "far limit": helper.make_node("Clip", ["x", "far", ""], ["y"]),
    "limit of float32": node("Min", "x most", "y"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_a_file_keep_every_digit(case: str, tmp_path: Path) -> None:
    """Onnxruntime's, and its operators' defaults, which are float32 numbers in float64, too."""
    made_node = NUMBERS[case]
    needed = {name: _TENTH[name] for name in made_node.input if name in _TENTH}
    made = _in_double(model([made_node], needed, [1, 3], opset=10 if "attribute" in case else 17))
    loaded = load_onnx(saved(made, tmp_path))
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs = OnnxRuntime(loaded.data, what=case).logits(x)
    with torch.no_grad():
        own = loaded.module(x)
    torch.testing.assert_close(own, theirs, rtol=1e-15, atol=1e-15)


DEFAULTS = ("BatchNormalization", "Celu", "Elu", "HardSigmoid", "LeakyRelu", "Selu")


@pytest.mark.parametrize("op", DEFAULTS)
def test_what_is_left_out_is_the_default_of_the_operators_table(op: str, tmp_path: Path) -> None:
    inputs = "x g m m v" if op == "BatchNormalization" else "x"
    needed = {name: _TENTH[name] for name in inputs.split()[1:]}
    table = {name: given.default_value for name, given in onnx.defs.get_schema(op).attributes.items()}
    said = {name: value.f for name, value in table.items() if value.type == onnx.AttributeProto.FLOAT}
    x = torch.linspace(-8, 8, 60, dtype=torch.float64).reshape(20, 3)
    found = []
    for attributes in ({}, said):
        path = saved(_in_double(model([node(op, inputs, "y", **attributes)], needed, [1, 3], opset=15)), tmp_path)
        found.append(module_of(read_onnx(path))(x).detach())
    assert said
    assert torch.equal(*found)


@pytest.mark.parametrize(("op", "attributes"), [("HardSwish", {}), ("Gelu", {"approximate": "tanh"})])
def test_functions_of_constants_that_float32_rounds_are_refused(
    op: str, attributes: dict[str, str], tmp_path: Path
) -> None:
    """ONNX computes them with 1/6 and 0.044715 as float32 numbers, PyTorch with float64's."""
    path = saved(_in_double(model([node(op, "x", "y", **attributes)], {}, [1, 3], opset=20)), tmp_path)
    with pytest.raises(UnsupportedNetworkError, match=r"constants are float32 numbers"):
        load_onnx(path)


def test_softplus_is_no_line_anywhere(tmp_path: Path) -> None:
    """PyTorch's is one from 20 on, by default, where e^-20 is float64's to see."""
    path = saved(_in_double(model([node("Softplus", "x", "y")], {}, [1, 3])), tmp_path)
    x = torch.linspace(-60, 60, 600, dtype=torch.float64).reshape(200, 3)
    expected = torch.logaddexp(x, torch.zeros_like(x))
    torch.testing.assert_close(module_of(read_onnx(path))(x), expected, rtol=1e-15, atol=1e-15)


def test_logits_are_compared_with_float64s_digits(tmp_path: Path) -> None:
    loaded = load_onnx(saved(_double(), tmp_path))
    for parameter in loaded.module.parameters():
        parameter.data *= 1 + 1e-9
    with pytest.raises(FormatError, match="apart"):
        check_same_logits(loaded.data, loaded.module, (4,), what="net")
