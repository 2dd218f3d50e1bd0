"""ONNX models written by hand with onnx.helper, and random constants for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT = onnx.TensorProto.FLOAT


def numbers(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / 2).astype(np.float32)


def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    """``node("Add", "x b", "y")``, called by its output's name."""
    return helper.make_node(op, inputs.split(), [output], name=f"the_{output}", **attributes)


def model(
    nodes: Sequence[Any],
    constants: Mapping[str, np.ndarray],
    input_shape: Sequence[int | str],
    *,
    output: str = "y",
    opset: int = 13,
    listed: bool = False,
) -> Any:
    """A model that reads "x"; ``listed`` also names the constants among the inputs, as old files do."""
    inputs = [helper.make_tensor_value_info("x", FLOAT, list(input_shape))]
    if listed:
        inputs += [helper.make_tensor_value_info(name, FLOAT, value.shape) for name, value in constants.items()]
    graph = helper.make_graph(
        list(nodes),
        "by_hand",
        inputs,
        [helper.make_tensor_value_info(output, FLOAT, [None, None])],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def saved(made: Any, folder: Path, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path
