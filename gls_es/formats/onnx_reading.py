"""An ONNX file as a network that can be bounded, or one error that lists every node that cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from gls_es.errors import UnsupportedNetworkError
from gls_es.formats.extras import installed
from gls_es.formats.onnx_graph import Array, OnnxGraph, OnnxNode, Shape, read_onnx
from gls_es.formats.onnx_module import OnnxModule
from gls_es.formats.onnx_nodes import CONSTANTS, NODES, Refused
from gls_es.formats.runtime import OnnxRuntime, check_same_logits
from gls_es.network import Network


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A network that comes from an ONNX file.

    Attributes:
        module: from (B, *input_shape) to (B, K), in evaluation mode.
        input_shape: without the batch axis.
        digest: SHA-256 of the file.
        data: the file's bytes, for replaying with onnxruntime.
        path: where it was.
    """

    module: OnnxModule
    input_shape: Shape
    digest: str
    data: bytes
    path: Path

    @cached_property
    def network(self) -> Network:
        """The traced network, for classifiers of two classes or more; ``gls_es.certify`` takes it, or the model.

        Raises:
            UnsupportedNetworkError: the outputs are not the logits of at least two classes.
        """
        return Network(self.module, self.input_shape)


def load_onnx(path: str | Path) -> OnnxModel:
    """Read a network from an ONNX file; where onnxruntime is installed, both are compared on random inputs.

    Args:
        path: the file: one float32 input (batch axis first), one output (batch, K), and of the operators: Conv, Gemm,
            MatMul, Relu, BatchNormalization, AveragePool, GlobalAveragePool, Flatten, Reshape, Squeeze, Unsqueeze,
            Transpose that moves axes of size 1 only, Add, Sub, Mul, Div, Identity, Dropout, Constant. It may be
            hostile: no other file is read.

    Raises:
        ConfigError: onnx is not installed.
        FormatError: the file is missing, damaged, or no such model.
        UnsupportedNetworkError: it holds nodes that have no bounds; all of them are listed.
    """
    graph = read_onnx(path)
    module = module_of(graph)
    if installed("onnxruntime"):
        check_same_logits(graph.data, module, graph.input_shape, what=str(path))
    return OnnxModel(module, graph.input_shape, graph.digest, graph.data, graph.path)


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
        building.take(node)
    return building.result()


@dataclass
class Building:
    """The module as far as it has been built. Value 0 is the input, value i + 1 what operation i makes.

    Attributes:
        graph: where it comes from.
        constants: arrays by name.
        places: index of the value that has a name; None for one that a refused node makes.
        shapes: of one image's values.
    """

    graph: OnnxGraph
    constants: dict[str, Array] = field(init=False)
    places: dict[str, int | None] = field(init=False)
    shapes: list[Shape] = field(init=False)
    operations: list[nn.Module] = field(default_factory=list)
    wiring: list[tuple[int, ...]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.constants = dict(self.graph.constants)
        self.places = {self.graph.input_name: 0}
        self.shapes = [self.graph.input_shape]
        self.readers = Counter(name for node in self.graph.nodes for name in node.inputs)
        self.readers[self.graph.output_name] += 1

    def take(self, node: OnnxNode) -> None:
        """Translate one node; what cannot be is noted, and the search goes on."""
        try:
            self._translate(node)
        except Refused as reason:
            self.problems.append(f"{node}: {reason}")
            self.places.update(dict.fromkeys(node.outputs, None))

    def _translate(self, node: OnnxNode) -> None:
        given = [name for name in node.inputs if name]
        if all(name in self.constants for name in given):
            fold = CONSTANTS.get(node.op)
            if fold is None:
                raise Refused("it computes with constants alone; simplify the model (onnxsim) first")
            self.constants[node.outputs[0]] = fold(node, [self.constants[name] for name in given])
            return
        translate = NODES.get(node.op)
        if translate is None:
            raise Refused("this operator has no bounds here")
        if any(self.readers[name] for name in node.outputs[1:]):
            raise Refused("only its first output can be used")
        if any(name not in self.constants and self.places.get(name) is None for name in given):
            self.places.update(dict.fromkeys(node.outputs, None))  # behind a refused node
            return
        self.places[node.outputs[0]] = translate(self, node)

    # -- what the translations use ----------------------------------------------------------------------------------

    def add(self, operation: nn.Module, sources: tuple[int, ...], shape: Shape) -> int:
        """Append an operation; the index of its value."""
        self.operations.append(operation)
        self.wiring.append(sources)
        self.shapes.append(shape)
        return len(self.operations)

    def activation(self, node: OnnxNode, position: int = 0) -> int:
        """Index of the value that the node reads at ``position``."""
        name = node.inputs[position] if position < len(node.inputs) else ""
        place = self.places.get(name)
        if place is None:
            raise Refused(f"its input {position} must be computed from the network's input")
        return place

    def constant(self, node: OnnxNode, position: int) -> Array:
        """The constant that the node reads at ``position``."""
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name not in self.constants:
            raise Refused(f"its input {position} must be a constant")
        return self.constants[name]

    def optional(self, node: OnnxNode, position: int) -> Array | None:
        """The same, or None where the node leaves it out."""
        given = position < len(node.inputs) and node.inputs[position]
        return self.constant(node, position) if given else None

    # -- the end ----------------------------------------------------------------------------------------------------

    def result(self) -> OnnxModule:
        """The module, or the error that lists all problems."""
        place = self.places.get(self.graph.output_name)
        if place is None and not self.problems:
            self.problems.append(f"the output {self.graph.output_name[:60]!r} does not depend on the input")
        if self.problems:
            listed = "; ".join(f"({i}) {problem}" for i, problem in enumerate(self.problems, 1))
            raise UnsupportedNetworkError(f"{self.graph.path} cannot be bounded: {listed}.")
        assert place is not None
        return OnnxModule(self.operations[:place], self.wiring[:place], place).eval()
