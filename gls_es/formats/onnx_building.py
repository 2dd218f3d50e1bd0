"""The module that an ONNX graph becomes, as far as it has been built, and what translations of nodes use of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.errors import UnsupportedNetworkError
from gls_es.formats.onnx_graph import MOST_VALUES, Array, OnnxGraph, OnnxNode, Shape
from gls_es.formats.onnx_module import OnnxModule


class Refused(Exception):
    """Why one node has no translation."""


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
        self.readers = Counter(name for node in self.graph.nodes for name in node.inputs if name)
        self.readers[self.graph.output_name] += 1

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


def float_tensor(array: Array) -> Tensor:
    """A float32 tensor with memory of its own."""
    if array.dtype != np.float32:
        raise Refused(f"its constant holds {array.dtype} numbers, not float32")
    return torch.from_numpy(np.array(array))


def whole_numbers(array: Array) -> list[int]:
    """The numbers of a shape or of axes."""
    if array.dtype not in (np.int64, np.int32):
        raise Refused("its shape or axes are not whole numbers")
    return [int(n) for n in array.reshape(-1)]


def checked_shape(shape: Shape) -> Shape:
    """The shape of one image's values, if such an activation may be made."""
    if min(shape) < 1 or math.prod(shape) > MOST_VALUES:
        raise Refused(f"it makes values of shape {shape}")
    return shape
