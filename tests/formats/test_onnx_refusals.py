"""ONNX operators without bounds, and those whose arguments are the trouble: refused by name, with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gls_es.errors import FormatError, UnsupportedNetworkError
from gls_es.formats import load_onnx
from tests.formats.hand_made import FLOAT, helper, model, node, numbers, saved

pytest.importorskip("onnxruntime")


_W = {"w": numbers(1, 4, 4), "k": numbers(2, 3, 2, 3, 3), "one": numbers(3, 1), "zero": np.zeros(4, dtype=np.float32)}
_W |= {"swap": np.array([4, 1]), "wide": numbers(4, 2, 4), "shape5": np.array([1, 5]), "two": np.array([2, -1])}
_W |= {"channels": np.ones(2, dtype=np.float32)}
REFUSED: dict[str, tuple[Any, list[int | str], str]] = {
    "constant times activation": (node("MatMul", "w x", "y"), [1, 4], "does not fit"),
    "two activations": (node("Gemm", "x x", "y"), [1, 4], "must be a constant"),
    "transposed input": (node("Gemm", "x w", "y", transA=1), [1, 4], "transA"),
    "weights that round": (node("Gemm", "x w", "y", alpha=0.1), [1, 4], "round"),
    "matrix of another size": (node("MatMul", "x w", "y"), [1, 3], "does not fit"),
    "uneven padding of steps": (
        node("Conv", "x k", "y", pads=[0, 0, 1, 1], dilations=[2, 2]),
        [1, 2, 5, 5],
        "differ between the sides",
    ),
    "no room for the kernel": (node("Conv", "x k", "y"), [1, 2, 2, 2], "makes values of shape"),
    "huge padding": (node("Conv", "x k", "y", pads=[2**40] * 4), [1, 2, 5, 5], "impossible sizes"),
    "large padding": (node("Conv", "x k", "y", pads=[2**20] * 4), [1, 2, 5, 5], "makes values of shape"),
    "other channels": (node("Conv", "x k", "y"), [1, 3, 5, 5], "does not fit 3 channels"),
    "convolution over one axis": (node("Conv", "x w", "y"), [1, 2, 5], "two axes"),
    "pool that counts no padding": (
        node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        [1, 2, 5, 5],
        "count_include_pad",
    ),
    "pool rounded up": (
        node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        [1, 2, 5, 5],
        "ceil_mode",
    ),
    "training mode": (
        node("BatchNormalization", "x channels channels channels channels", "y", training_mode=1),
        [1, 2, 5, 5],
        "frozen",
    ),
    "flatten of the batch": (node("Flatten", "x", "y", axis=0), ["N", 2, 5, 5], "mixes the images"),
    "reshape of the batch": (node("Reshape", "x swap", "y"), ["N", 4], "first axis is not the batch"),
    "reshape into two": (node("Reshape", "x two", "y"), ["N", 4], "first axis is not the batch"),
    "reshape that does not fit": (node("Reshape", "x shape5", "y"), [1, 4], "into"),
    "reshape by an activation": (node("Reshape", "x x", "y"), [1, 4], "must be a constant"),
    "transposing the batch": (node("Transpose", "x", "y", perm=[1, 0, 2, 3]), ["N", 2, 5, 5], "moves the batch"),
    "broadcast that enlarges": (node("Add", "x wide", "y"), ["N", 4], "not the batch"),
    "division by zero": (node("Div", "x zero", "y"), [1, 4], "other than zero"),
    "division of a constant": (node("Div", "one x", "y"), [1, 4], "other than zero"),
    "constants at run time": (node("Relu", "w", "y"), [1, 4], "constants alone"),
    "another library's operator": (
        node("FusedMatMul", "x w", "y", domain="com.microsoft"),
        [1, 4],
        "com.microsoft.FusedMatMul",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    made_node, shape, said = REFUSED[case]
    needed = {name: _W[name] for name in made_node.input if name != "x"}
    made = model([made_node], needed, shape, opset=15)
    if made_node.domain:
        made.opset_import.append(helper.make_opsetid(made_node.domain, 1))
    with pytest.raises(UnsupportedNetworkError, match=r"the_y|FusedMatMul") as caught:
        load_onnx(saved(made, tmp_path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_in_the_way_is_listed_at_once(tmp_path: Path) -> None:
    nodes = [
        node("Softsign", "x", "a"),
        node("MatMul", "a w", "b"),
        node("Mul", "b b", "c"),
        node("Relu", "c", "d"),
        node("Softmax", "d", "y"),
    ]
    made = model(nodes, {"w": numbers(1, 4, 4)}, [1, 4])
    with pytest.raises(UnsupportedNetworkError) as caught:
        load_onnx(saved(made, tmp_path))
    message = str(caught.value)
    for said in ("'the_a' (Softsign)", "'the_y' (Softmax)", "net.onnx"):
        assert said in message
    assert "(3)" not in message  # what lies behind a refused node cannot be judged
    assert "\n" not in message


def _training(opset: int) -> Any:
    """BatchNormalization with the outputs of training, which it had until version 13."""
    made_node = helper.make_node("BatchNormalization", list("xcccc"), list("ymvsn"), name="the_y")
    return model([made_node], {"c": np.ones(2, dtype=np.float32)}, [1, 2, 5, 5], opset=opset)


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_normalisation_with_the_outputs_of_training_is_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"the_y.*frozen statistics"):
        load_onnx(saved(_training(opset), tmp_path))


def test_axes_added_twice_or_before_the_batch_are_refused(tmp_path: Path) -> None:
    for axes, said in (
        ([1, 1], "named twice"),
        ([3, -1], "named twice"),
        ([0], "front of the batch"),
        ([5], "not there"),
    ):
        made = model([node("Unsqueeze", "x axes", "y")], {"axes": np.array(axes)}, ["N", 4])
        with pytest.raises(UnsupportedNetworkError, match=said):
            load_onnx(saved(made, tmp_path))


def test_dropout_that_is_on_is_refused(tmp_path: Path) -> None:
    constants = {"half": np.array(0.5, dtype=np.float32), "on": np.array(True)}
    made = model([node("Dropout", "x half on", "y")], constants, [1, 4])
    with pytest.raises(UnsupportedNetworkError, match="training mode"):
        load_onnx(saved(made, tmp_path))


@pytest.mark.parametrize(("op", "hint"), [("Erfc", "approximate=True"), ("Selu6", "the exporter translates")])
def test_what_is_no_operator_of_onnx_is_said_to_be_the_exporters_fault(tmp_path: Path, op: str, hint: str) -> None:
    path = saved(model([node(op, "x", "y")], {}, [1, 4]), tmp_path)
    with pytest.raises(FormatError, match=f"'{op}', which is no operator of ONNX.*{hint}"):
        load_onnx(path)


_NAN, _INF = float("nan"), float("inf")
NO_NUMBERS = {
    "border": [node("Pad", "x", "y", pads=[0, 1, 0, 0], value=_NAN)],
    "slope": [node("LeakyRelu", "x", "y", alpha=_NAN)],
    "factor": [node("Gemm", "x w", "y", alpha=_INF)],
    "end": [node("Clip", "x", "y", min=_NAN)],
    "constant": [node("Constant", "", "c", value_float=_NAN), node("Add", "x c", "y")],
    "constants": [node("Constant", "", "c", value_floats=[_INF] * 4), node("Mul", "x c", "y")],
    "limit that is added, too": [node("Min", "x inf", "a"), node("Add", "a inf", "y")],
    "limit of nothing": [node("Min", "inf x", "y"), node("Max", "inf x", "z")],
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_nan_and_infinity_are_refused_where_they_stand(case: str, tmp_path: Path) -> None:
    needed = {"w": _W["w"], "inf": np.array(_INF, dtype=np.float32)}
    nodes = NO_NUMBERS[case]
    needed = {name: needed[name] for made_node in nodes for name in made_node.input if name in needed}
    made = model(nodes, needed, [1, 4], opset=10 if case in ("border", "end") else 13, output=nodes[-1].output[0])
    if case == "limit of nothing":
        made.graph.output.append(helper.make_tensor_value_info("y", FLOAT, [1, 4]))
    with pytest.raises((FormatError, UnsupportedNetworkError), match="holds NaN or infinity"):
        load_onnx(saved(made, tmp_path))
