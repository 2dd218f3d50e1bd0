"""What can be verified, in the words of the VNN-LIB standard (chapter 5.4), from the tables that the readers use."""

from __future__ import annotations

from gls_es.formats import vnnlib, vnnlib2
from gls_es.formats.onnx_constants import CONSTANTS
from gls_es.formats.onnx_enclosing import ENCLOSED
from gls_es.formats.onnx_graph import OPSETS
from gls_es.formats.onnx_nodes import NODES

CAPABILITIES: dict[str, tuple[str, ...]] = {
    "onnx-opset-versions": (str(OPSETS[0]), str(OPSETS[-1])),
    "onnx-element-types": vnnlib2.TYPES,
    "onnx-operators": tuple(sorted({*NODES, *CONSTANTS, *ENCLOSED})),
    "vnnlib-versions": (vnnlib.VERSIONS[0], vnnlib.VERSIONS[-1]),
    **vnnlib2.THEORIES,
    "optimised-disjunctive-reasoning": ("false",),
    "serialise-assignments": ("false",),
}
"""By the name of a capability, the lines that ``gls-es supports`` prints for it."""
