"""An ONNX file as a network that can be bounded, or one error that lists every node that cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from gls_es.errors import FormatError
from gls_es.formats.extras import installed
from gls_es.formats.onnx_building import Building, Refused
from gls_es.formats.onnx_constants import CONSTANTS, shape_of
from gls_es.formats.onnx_graph import OnnxGraph, OnnxNode, Shape, Signature, read_onnx
from gls_es.formats.onnx_module import OnnxModule
from gls_es.formats.onnx_nodes import NODES
from gls_es.formats.runtime import OnnxRuntime, check_same_logits
from gls_es.formats.vnnlib2 import Declarations
from gls_es.network import Network


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A network that comes from an ONNX file.

    Attributes:
        module: from (B, *input_shape) to (B, K), in evaluation mode.
        input_shape: without the batch axis; (n,) for several inputs, whose numbers follow one another.
        digest: SHA-256 of the file.
        data: the model in its serial form, for replaying with onnxruntime; dead nodes and tensors are left out.
        path: where it was.
        compared: the second reader whose logits were found to be the same, "onnxruntime" or "onnx.reference".
        inputs: names and sizes in the file, in its order.
        outputs: likewise.
        left_out: the last Softmax or LogSoftmax, if it was left out.
    """

    module: OnnxModule
    input_shape: Shape
    digest: str
    data: bytes
    path: Path
    compared: str
    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    left_out: str | None = None

    @property
    def execution(self) -> str:
        """The format that the network computes in, "float32" or "float64"."""
        return self.inputs[0].kind

    @cached_property
    def network(self) -> Network:
        """The traced network, for classifiers of two classes or more; ``gls_es.certify`` takes it, or the model.

        Raises:
            UnsupportedNetworkError: the outputs are not the logits of at least two classes.
        """
        return Network(self.module, self.input_shape)


def load_onnx(path: str | Path, *, output: str | None = None, classifier: bool = False) -> OnnxModel:
    """Read a network from an ONNX file; its logits are compared with those of onnxruntime, or of onnx itself.

    Args:
        path: the file, of float32 inputs and outputs and of the operators that ``gls-es supports --onnx-operators``
            lists. It may be compressed by gzip, and it may be hostile.
        output: the name of the one output that is read; None for all of them, one after the other.
        classifier: whether only the class is asked for: there is one output then, and a last Softmax is left out.

    Raises:
        ConfigError: onnx is not installed.
        FormatError: the file is missing, damaged, or no such model.
        UnsupportedNetworkError: it holds nodes that have no bounds; all of them are listed.
    """
    graph = read_onnx(path, output=output, classifier=classifier)
    module = module_of(graph)
    there = installed("onnxruntime")
    check_same_logits(graph.data, module, graph.input_shape, what=str(path), reference=not there)
    return OnnxModel(
        module=module,
        input_shape=graph.input_shape,
        digest=graph.digest,
        data=graph.data,
        path=graph.path,
        compared="onnxruntime" if there else "onnx.reference",
        inputs=graph.inputs,
        outputs=graph.outputs,
        left_out=graph.left_out,
    )


def check_declared(model: OnnxModel | OnnxGraph, declared: Declarations) -> None:
    """Compare a model's inputs and outputs with those that a query declares; names need not agree.

    Raises:
        FormatError: there are more or fewer, or their shapes differ.
    """
    for what, found, wanted in (("in", model.inputs, declared.inputs), ("out", model.outputs, declared.outputs)):
        if len(found) != len(wanted):
            raise FormatError(f"{model.path}: has {len(found)} {what}puts, and the query declares {len(wanted)}.")
        for own, tensor in zip(found, wanted, strict=True):
            pairs = zip(own.sizes, tensor.shape, strict=False)
            same_kind = tensor.kind in (own.kind, "real")
            if not same_kind or len(own.sizes) != len(tensor.shape) or any(n not in (None, m) for n, m in pairs):
                raise FormatError(f"{model.path}: its {what}put {own} is not the query's {tensor}.")
            if what == "in" and own.one != tensor.shape:
                raise FormatError(f"{model.path}: its input {own} is read for one image, not as {tensor}.")


_HINTS = {
    "Softmax": "it has bounds as the last step of a classifier only, for gls-es certify, which leaves it out",
    "LogSoftmax": "it has bounds as the last step of a classifier only, for gls-es certify, which leaves it out",
    "ai.onnx.ml.ZipMap": "it makes dictionaries; export with options={'zipmap': False}, and read one output",
    "ArgMax": "it makes a class of logits; read the output with the logits instead (--output NAME)",
    "If": "branches have no bounds here; export the model in evaluation mode, for one size of batch",
    "Loop": "loops have no bounds here; export the model for one size of batch",
}
"""Why operators are refused, and the way out, where there is one."""


def replaying(model: OnnxModel) -> Callable[[Tensor], Tensor] | None:
    """Onnxruntime on the model's file, from (B, *input_shape) to (B, K); None where it is not installed."""
    return OnnxRuntime(model.data, what=str(model.path)).logits if installed("onnxruntime") else None


def module_of(graph: OnnxGraph) -> OnnxModule:
    """The graph as a torch module.

    Raises:
        UnsupportedNetworkError: it holds nodes that have no bounds; all of them are listed.
    """
    building = Building(graph)
    for node in graph.nodes:
        _take(building, node)
    return building.result()


def _take(building: Building, node: OnnxNode) -> None:
    """Translate one node; what cannot be is noted, and the search goes on."""
    try:
        _translate(building, node)
    except Refused as reason:
        building.problems.append(f"{node}: {reason}")
        building.places.update(dict.fromkeys(node.outputs, None))


def _translate(building: Building, node: OnnxNode) -> None:
    given = [name for name in node.inputs if name]
    if all(name in building.constants for name in given):
        fold = CONSTANTS.get(node.op)
        if fold is None:
            raise Refused("it computes with constants alone; simplify the model (onnxsim) first")
        building.constants[node.outputs[0]] = fold(node, [building.constants[name] for name in given])
        return
    translate = NODES.get(node.op)
    if translate is None and node.op != "Shape":
        raise Refused(_HINTS.get(node.op, "this operator has no bounds here"))
    if any(name not in building.constants and building.places.get(name) is None for name in given):
        building.places.update(dict.fromkeys(node.outputs, None))  # behind a refused node
        return
    if translate is None:
        building.constants[node.outputs[0]] = shape_of(node, building.activation(node).full)
        return
    made = translate(building, node)
    values = made if isinstance(made, tuple) else (made,)
    if any(building.readers[name] for name in node.outputs[len(values) :]):
        raise Refused("only its first output can be used")
    building.places.update(zip(node.outputs, values, strict=False))
