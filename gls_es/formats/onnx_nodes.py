"""What each ONNX operator becomes: two tables, one for activations and one for constants.

A translation takes the running :class:`~gls_es.formats.onnx_building.Building` and the node, adds operations, and
returns the index of the value that the node makes. It raises :class:`~gls_es.formats.onnx_building.Refused` with the
reason where there is none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gls_es.formats import onnx_arithmetic as arithmetic
from gls_es.formats import onnx_layers as layers
from gls_es.formats import onnx_shapes as shapes
from gls_es.formats.onnx_building import Building, Refused
from gls_es.formats.onnx_graph import Array, OnnxNode

NODES: dict[str, Callable[[Building, OnnxNode], int]] = {
    "Add": arithmetic.arithmetic,
    "AveragePool": layers.average_pool,
    "BatchNormalization": layers.batch_norm,
    "Conv": layers.conv,
    "Div": arithmetic.arithmetic,
    "Dropout": arithmetic.dropout,
    "Flatten": shapes.flatten,
    "Gemm": layers.gemm,
    "GlobalAveragePool": layers.global_average_pool,
    "Identity": arithmetic.same,
    "MatMul": layers.matmul,
    "Mul": arithmetic.arithmetic,
    "Relu": arithmetic.relu,
    "Reshape": shapes.reshape,
    "Squeeze": shapes.squeeze,
    "Sub": arithmetic.arithmetic,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
}
"""Operators by name; what they do to activations."""


def _constant(node: OnnxNode, _inputs: list[Array]) -> Array:
    for name, kind in (("value", None), ("value_float", np.float32), ("value_floats", np.float32)):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype=kind)
    for name in ("value_int", "value_ints"):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype=np.int64)
    raise Refused("it holds no numbers")


def _moved(node: OnnxNode, inputs: list[Array]) -> Array:
    order = node.attributes.get("perm", list(range(inputs[0].ndim))[::-1])
    if sorted(order) != list(range(inputs[0].ndim)):
        raise Refused(f"perm={order} does not fit its constant")
    return inputs[0].transpose(order)


CONSTANTS: dict[str, Callable[[OnnxNode, list[Array]], Array]] = {
    "Constant": _constant,
    "Identity": lambda _node, inputs: inputs[0],
    "Transpose": _moved,
}
"""The same for nodes that read constants alone."""
