"""What each ONNX operator becomes where it reads what depends on the network's input.

A translation takes the running :class:`~gls_es.formats.onnx_building.Building` and the node, adds operations, and
returns the value that the node makes, or one for each of its outputs. It raises
:class:`~gls_es.formats.onnx_building.Refused` with the reason where there is none.
"""

from __future__ import annotations

from collections.abc import Callable

from gls_es.formats import onnx_arithmetic as arithmetic
from gls_es.formats import onnx_back as back
from gls_es.formats import onnx_filling as filling
from gls_es.formats import onnx_layers as layers
from gls_es.formats import onnx_pools as pools
from gls_es.formats import onnx_resizing as resizing
from gls_es.formats import onnx_shapes as shapes
from gls_es.formats.onnx_activations import ACTIVATIONS
from gls_es.formats.onnx_building import Building, Value
from gls_es.formats.onnx_graph import OnnxNode

NODES: dict[str, Callable[[Building, OnnxNode], Value | tuple[Value, ...]]] = {
    "Add": arithmetic.arithmetic,
    "AveragePool": pools.average_pool,
    "BatchNormalization": layers.batch_norm,
    "Cast": arithmetic.cast,
    "Clip": arithmetic.clip,
    "Concat": shapes.concat,
    "Conv": layers.conv,
    "ConvTranspose": back.conv_transpose,
    "DepthToSpace": resizing.depth_to_space,
    "Div": arithmetic.arithmetic,
    "Dropout": arithmetic.dropout,
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Gather": shapes.gather,
    "Gemm": layers.gemm,
    "GlobalAveragePool": pools.global_average_pool,
    "Identity": arithmetic.same,
    "MatMul": layers.matmul,
    "Max": arithmetic.extreme,
    "MaxPool": pools.max_pool,
    "Min": arithmetic.extreme,
    "Mul": arithmetic.arithmetic,
    "Neg": arithmetic.negated,
    "Pad": filling.pad,
    "Pow": arithmetic.power,
    "ReduceMean": shapes.reduced,
    "ReduceSum": shapes.reduced,
    "Relu": arithmetic.relu,
    "Reshape": shapes.reshape,
    "Resize": resizing.resize,
    "Slice": shapes.sliced,
    "SpaceToDepth": resizing.depth_to_space,
    "Split": shapes.split,
    "Squeeze": shapes.squeeze,
    "Sub": arithmetic.arithmetic,
    "Sum": arithmetic.total,
    "Tile": resizing.tile,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
    "Upsample": resizing.resize,
    "Where": filling.where,
    **ACTIVATIONS,
}
"""Operators by name."""
