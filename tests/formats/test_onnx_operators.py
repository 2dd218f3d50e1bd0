"""ONNX operators one by one, windows, shapes, products and sums: what is read is what onnxruntime computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gls_es
from gls_es.formats import load_onnx
from gls_es.formats.runtime import OnnxRuntime
from tests.formats.hand_made import helper, model, node, numbers, saved

pytest.importorskip("onnxruntime")


_C = {"w": numbers(1, 4, 3), "k": numbers(2, 3, 2, 3, 3), "k1": numbers(3, 3, 2, 2), "row": numbers(4, 1, 3)}
_C |= {"column": numbers(5, 2, 1), "left": numbers(6, 5, 4), "zero": np.array(0, dtype=np.float32)}
_C |= {"i01": np.array([1, 0]), "i2": np.array([2]), "i4": np.array([4]), "one": np.array([1]), "minus": np.array([-1])}
_C |= {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "to": np.array([2, 3]), "s23": np.array([2, 3]), "v": numbers(7, 4)}
_C |= {"low": np.array(-0.3, dtype=np.float32), "high": np.array(0.4, dtype=np.float32), "s13": np.array([1, 3])}
READ: dict[str, tuple[list[Any], list[int | str]]] = {
    "uneven padding": ([node("Conv", "x k", "y", pads=[0, 2, 1, 0], strides=[2, 1])], [1, 2, 5, 6]),
    "uneven padding of steps": ([node("Conv", "x k", "y", pads=[0, 0, 2, 2], dilations=[2, 2])], [1, 2, 6, 6]),
    "padding above": ([node("Conv", "x k", "y", auto_pad="SAME_UPPER", strides=[2, 2])], [1, 2, 6, 5]),
    "padding below": ([node("Conv", "x k", "y", auto_pad="SAME_LOWER", strides=[2, 2])], ["N", 2, 6, 5]),
    "convolution over one axis": ([node("Conv", "x k1", "y", pads=[1, 0], strides=[2])], [1, 2, 7]),
    "maximum of overlapping windows": (
        [node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 1, 0])],
        [1, 2, 5, 4],
    ),
    "maximum rounded up": ([node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], [1, 1, 5, 3]),
    "maximum of steps": ([node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 1])], [1, 1, 4, 3]),
    "reordering": ([node("Transpose", "x", "y", perm=[0, 2, 3, 1])], ["N", 2, 3, 4]),
    "reordering the first axis": ([node("Transpose", "x", "y")], [2, 3]),
    "flatten of everything": ([node("Flatten", "x", "y", axis=2)], [2, 3, 4]),
    "reshape of the first axis": ([node("Reshape", "x to", "y")], [6]),
    "broadcast that enlarges": ([node("Add", "x column", "a"), node("Mul", "row a", "y")], [1, 3]),
    "expansion": ([node("Expand", "x s23", "y")], [2, 1]),
    "matrix first": ([node("MatMul", "left x", "y")], [4, 3]),
    "matrix on the last axis": ([node("MatMul", "x w", "y")], ["N", 2, 4]),
    "vectors": ([node("MatMul", "x w", "a"), node("Add", "a row", "y")], [4]),
    "vector last": ([node("MatMul", "x v", "y")], [2, 4]),
    "joined with itself and a constant": (
        [node("Relu", "x", "a"), node("Concat", "x row a", "y", axis=0)],
        [2, 3],
    ),
    "split": (
        [helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), node("Sub", "b a", "y")],
        ["N", 4, 3],
    ),
    "cut backwards": ([node("Slice", "x i4 zero_ one_ minus", "y")], [2, 6]),
    "gathered": ([node("Gather", "x i01", "y", axis=1)], [1, 3, 2]),
    "border of zeros": ([node("Pad", "x pads", "y")], [1, 2, 3, 2]),
    "border of a number": ([node("Pad", "x pads low", "y")], [1, 2, 3, 2]),
    "sums": ([node("ReduceSum", "x one", "y", keepdims=0)], [2, 3, 4]),
    "means": ([node("ReduceMean", "x minus", "y")], ["N", 3, 5]),
    "mean of everything": (
        [
            node("ReduceMean", "x", "y", keepdims=0),
        ],
        [3, 5],
    ),
    "negative": ([node("Neg", "x", "y")], [3]),
    "three summands": ([node("Relu", "x", "a"), node("Sum", "x a row", "y")], [1, 3]),
    "above zero": ([node("Max", "zero x", "y")], ["N", 3]),
    "below a row": ([node("Min", "x row", "y")], ["N", 3]),
    "the larger and the smaller": (
        [node("Neg", "x", "a"), node("Max", "x a", "b"), node("Min", "a b high", "y")],
        [2, 3],
    ),
    "normalisation without epsilon": (
        [helper.make_node("BatchNormalization", ["x", "ones2", "ones2", "ones2", "ones2"], ["y"], epsilon=0.0)],
        [1, 2, 3],
    ),
    "within ends": ([node("Clip", "x low high", "y")], [2, 3]),
    "within one end": ([helper.make_node("Clip", ["x", "", "high"], ["y"])], [2, 3]),
    "within ends that have changed places": ([node("Clip", "x high low", "a"), node("Add", "x a", "y")], [2, 3]),
    "shape of its own": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero_i", "n"),
            node("Concat", "n minus", "t", axis=0),
            node("Reshape", "x t", "a"),
            node("ConstantOfShape", "s23", "c"),
            node("Cast", "c", "f", to=1),
            node("Reshape", "f s13_", "g"),
            node("Cast", "a", "b", to=1),
            node("Add", "b g", "y"),
        ],
        ["N", 2, 3],
    ),
    "batch of one without its axis": (
        [node("Squeeze", "x", "a"), node("Relu", "a", "b"), node("Unsqueeze", "b zero_i", "y")],
        [1, 1, 4, 1],
    ),
}
_C |= {
    "ones2": np.ones(2, dtype=np.float32),
    "zero_": np.array([0]),
    "one_": np.array([1]),
    "zero_i": np.array([0]),
    "s13_": np.array([1, 6]),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read_is_what_onnxruntime_computes(case: str, tmp_path: Path) -> None:
    """Inputs of both signs, one by one."""
    nodes, shape = READ[case]
    needed = {name: _C[name] for made_node in nodes for name in made_node.input if name in _C}
    loaded = load_onnx(saved(model(nodes, needed, shape, opset=18), tmp_path))
    x = 2 * torch.randn(6, *loaded.input_shape, generator=torch.Generator().manual_seed(1))
    theirs = OnnxRuntime(loaded.data, what=case).logits(x)
    with torch.no_grad():
        own = loaded.module(x).flatten(1)
    assert own.shape == theirs.shape
    assert float((own - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.abs().max()))
    assert theirs.std() > 0.05


_MOST = np.finfo(np.float32).max
_FAR = {"far": np.float32(1e6), "deep": np.float32(-4e7), "most": np.float32(_MOST), "lowest": np.float32(-_MOST)}
_FAR["less"] = np.array([[-3e6, 0.1]], dtype=np.float32)
_FAR |= {"inf": np.float32(np.inf), "least": np.float32(-np.inf)}
_FAR |= {"none": np.float32(0), "rows": np.array([[1e6, 2e6]], dtype=np.float32)}
FAR: dict[str, tuple[Any, int]] = {
    "smaller": (node("Min", "x far", "a"), 13),
    "larger": (node("Max", "deep x", "a"), 13),
    "smaller than a row": (node("Min", "x rows", "a"), 13),
    "larger than a row": (node("Max", "less x", "a"), 13),
    "one end": (helper.make_node("Clip", ["x", "", "far"], ["a"]), 13),
    "the other end": (node("Clip", "x deep", "a"), 13),
    "far ends": (node("Clip", "x deep far", "a"), 13),
    "no upper end": (node("Clip", "x none most", "a"), 13),
    "no lower end": (node("Clip", "x lowest far", "a"), 13),
    "no end": (node("Clip", "x lowest most", "a"), 13),
    "attributes": (node("Clip", "x", "a", min=0.0, max=float(_MOST)), 7),
    "smaller than the largest": (node("Min", "x most", "a"), 13),
    "larger than anything": (node("Max", "x least", "a"), 13),
    "an infinite end": (node("Clip", "x none inf", "a"), 13),
    "an infinite attribute": (node("Clip", "x", "a", min=0.0, max=float("inf")), 7),
}


@pytest.mark.parametrize("case", FAR)
def test_ends_far_off_hand_on_every_digit(case: str, tmp_path: Path) -> None:
    """As they are executed, and in the bounds: an error of one unit of 1e6 would outweigh the margin, 0.1."""
    made_node, opset = FAR[case]
    needed = {name: np.asarray(_FAR[name]) for name in made_node.input if name in _FAR}
    needed["eye"] = np.eye(2, dtype=np.float32)
    path = saved(model([made_node, node("MatMul", "a eye", "y")], needed, [1, 2], opset=opset), tmp_path)
    loaded = load_onnx(path)
    x = torch.tensor([[0.6, 0.3], [1.1e6, -5e7], [-0.1, 2.3e6]])
    assert torch.equal(loaded.module(x), OnnxRuntime(loaded.data, what=case).logits(x))
    (verdict,) = gls_es.certify(str(path), x[:1], [0], 0.1, timeout=10).verdicts
    assert verdict.verdict == "certified", verdict.reason


def test_maxima_hand_on_every_digit(tmp_path: Path) -> None:
    nodes = [node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Neg", "x", "n"), node("Max", "n p", "a")]
    path = saved(model([*nodes, node("Min", "a x", "y")], {}, [1, 1, 2, 2]), tmp_path)
    loaded = load_onnx(path)
    x = torch.randn(200, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    x = x * 10.0 ** torch.randint(-6, 9, x.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded.module(x).flatten(1), OnnxRuntime(loaded.data, what="maxima").logits(x))


def test_a_clip_between_numbers_is_one_curve(tmp_path: Path) -> None:
    needed = {name: _C[name] for name in ("low", "high")}
    loaded = load_onnx(saved(model([node("Clip", "x low high", "y")], needed, [3]), tmp_path))
    assert len(loaded.network.graph.relus()) == 1


def test_several_inputs_and_outputs_follow_one_another(tmp_path: Path) -> None:
    made = model([node("Sub", "x z", "y"), node("Add", "x z", "u")], {}, [2])
    made.graph.input.append(helper.make_tensor_value_info("z", 1, [1, 2]))
    made.graph.output.append(helper.make_tensor_value_info("u", 1, [1, 2]))
    loaded = load_onnx(saved(made, tmp_path))
    assert loaded.input_shape == (4,)
    found = loaded.module(torch.tensor([[1.0, 2.0, 10.0, 20.0]]))
    assert found.flatten(1).tolist() == [[-9.0, -18.0, 11.0, 22.0]]


def test_an_output_that_is_a_constant(tmp_path: Path) -> None:
    made = model([node("Shape", "x", "y")], {}, [2, 3])
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 7, [2]))
    assert load_onnx(saved(made, tmp_path)).module(torch.rand(4, 2, 3)).flatten(1).tolist() == [[2.0, 3.0]] * 4
