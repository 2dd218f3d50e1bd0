"""The module that an ONNX graph becomes, as far as it has been built, and what translations of nodes use of it.

The graph is read as what it computes for one image. In the module every value has an axis for images in front; where
ONNX has a first axis of size 1, that is the one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.errors import UnsupportedNetworkError
from gls_es.formats.onnx_graph import MOST_VALUES, Array, OnnxGraph, OnnxNode, Shape
from gls_es.formats.onnx_module import OnnxModule, Selected, Shaped, Sum, WithConstant, with_weights

_LARGEST_MATRIX = 2**24
"""Numbers of the matrix of zeros that an output takes that depends on no input."""


class Refused(Exception):
    """Why one node has no translation."""


@dataclass(frozen=True)
class Value:
    """A value that depends on the input.

    Attributes:
        index: 0 for the module's input, i + 1 for what operation i makes.
        full: its shape in ONNX.
    """

    index: int
    full: Shape

    @property
    def shape(self) -> Shape:
        """The shape that the module gives it, without its axis for images."""
        return self.full[1:] if len(self.full) > 1 and self.full[0] == 1 else self.full or (1,)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.full)


@dataclass
class Building:
    """The module as far as it has been built.

    Attributes:
        graph: where it comes from.
        constants: arrays by name.
        places: the value that has a name; None for one that a refused node makes.
        open_batch: whether the first axis may have any size, so that no node may touch it.
    """

    graph: OnnxGraph
    constants: dict[str, Array] = field(init=False)
    places: dict[str, Value | None] = field(init=False)
    operations: list[nn.Module] = field(default_factory=list)
    wiring: list[tuple[int, ...]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.constants = dict(self.graph.constants)
        self.readers = Counter(name for node in self.graph.nodes for name in node.inputs if name)
        self.readers.update(value.name for value in self.graph.outputs)
        self.open_batch = any(value.sizes[:1] == (None,) for value in self.graph.inputs)
        self.places = {}
        whole = Value(0, (1, sum(math.prod(value.one) for value in self.graph.inputs)))
        start = 0
        for value in self.graph.inputs:
            if len(self.graph.inputs) == 1:
                self.places[value.name] = Value(0, value.one)
                break
            stop = start + math.prod(value.one)
            self.places[value.name] = self.reshaped(
                self.moved_one(whole, partial(_part, start=start, stop=stop)), value.one
            )
            start = stop

    # -- what the translations use ----------------------------------------------------------------------------------

    def add(self, operation: nn.Module, sources: Sequence[Value], full: Shape) -> Value:
        """Append an operation; what it makes."""
        tensors = (*operation.parameters(), *operation.buffers())
        if self.graph.execution == "float32" and any(tensor.dtype == torch.float64 for tensor in tensors):
            raise Refused("its constants are float64 numbers in a network of float32")
        if min(full, default=1) < 1 or math.prod(full) > MOST_VALUES:
            raise Refused(f"it makes values of shape {full}")
        if self.open_batch and (len(full) < 2 or full[0] != 1):
            raise Refused(f"it makes values of shape {full} for one image, whose first axis is not the batch")
        self.operations.append(operation)
        self.wiring.append(tuple(source.index for source in sources))
        return Value(len(self.operations), full)

    def reshaped(self, source: Value, full: Shape) -> Value:
        """The same numbers in another shape."""
        if math.prod(full) != source.size:
            raise Refused(f"it turns values of shape {source.full} into {full}")
        if self.open_batch and (len(full) < 2 or full[0] != 1):
            raise Refused(f"it reshapes to {full} for one image, whose first axis is not the batch")
        wanted = Value(source.index, full)
        if wanted.shape == source.shape:
            return wanted
        return self.add(nn.Flatten() if len(wanted.shape) == 1 else Shaped(wanted.shape), (source,), full)

    def linear(self, source: Value, weight: Tensor, bias: Tensor | None, full: Shape) -> Value:
        """A matrix (out, in) times all numbers of a value, plus a bias."""
        flat = self.reshaped(source, (1, source.size))
        layer = with_weights(
            nn.Linear,
            weight.shape[1],
            weight.shape[0],
            bias=bias is not None,
            weights={"weight": weight.contiguous(), "bias": bias},
        )
        return self.reshaped(self.add(layer, (flat,), (1, len(weight))), full)

    def moved(
        self, sources: Sequence[Value], function: Callable[..., Array], fill: Callable[[], Array] | None = None
    ) -> Value:
        """Values in the order, as often and with the gaps that a NumPy function gives arrays of their shapes.

        Args:
            sources: the values.
            function: moves the numbers of arrays, one for each value; what it puts between them must be zeros.
            fill: makes the array of the result's shape that holds what belongs there instead; None for zeros.
        """
        ends = np.cumsum([source.size for source in sources]).tolist()
        parts = zip(ends, sources, strict=True)
        numbered = [np.arange(end - s.size + 1, end + 1, dtype=np.int64).reshape(s.full) for end, s in parts]
        result = function(*numbered)
        full, index = tuple(result.shape), result.reshape(-1).astype(np.int64) - 1
        if 0 in full or len(index) > MOST_VALUES:
            raise Refused(f"it makes values of shape {full}")
        if len(sources) == 1 and np.array_equal(index, np.arange(sources[0].size)):
            return self.reshaped(sources[0], full)
        numbers = None if fill is None else _between(fill().reshape(-1), index)
        return self.add(Selected(torch.from_numpy(index), Value(0, full).shape, numbers), sources, full)

    def moved_one(self, source: Value, function: Callable[[Array], Array]) -> Value:
        """The same of one value, without gaps."""
        return self.moved((source,), function)

    def with_constant(self, op: str, source: Value, constant: Array, *, first: bool = False) -> Value:
        """An arithmetic operation with a constant of the value's rank that broadcasts to it."""
        value = float_tensor(constant)
        if value.dim() > len(source.shape):
            value = value[0]
        return self.add(WithConstant(op, value, first=first), (source,), source.full)

    def summed(self, parts: Sequence[Value]) -> Value:
        """The sum of values of one shape."""
        found = parts[0]
        for part in parts[1:]:
            found = self.add(Sum(), (found, part), found.full)
        return found

    def activation(self, node: OnnxNode, position: int = 0) -> Value:
        """The value that the node reads at ``position``."""
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

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front; it must not be that of an open batch."""
        if not -rank <= axis < rank:
            raise Refused(f"axis={axis} is not there")
        if self.open_batch and axis % rank == 0:
            raise Refused(f"axis={axis} mixes the images of a batch")
        return axis % rank

    def result(self) -> OnnxModule:
        """The module, or the error that lists all problems."""
        try:
            found = None if self.problems else self._outputs()
        except Refused as reason:
            self.problems.append(str(reason))
        if self.problems:
            listed = "; ".join(f"({i}) {problem}" for i, problem in enumerate(self.problems, 1))
            raise UnsupportedNetworkError(f"{self.graph.path} cannot be bounded: {listed}.")
        assert found is not None
        module = OnnxModule(self.operations[: found.index], self.wiring[: found.index], found.index).eval()
        return module.double() if self.graph.execution == "float64" else module

    def _outputs(self) -> Value:
        """The one output, or all of them one after the other."""
        found = []
        for output in self.graph.outputs:
            place = self.places.get(output.name)
            if place is None and output.name in self.constants:
                place = self._fixed(self.constants[output.name])
            if place is None:
                raise Refused(f"the output {output.name[:60]!r} is made by no node")
            found.append(place)
        return found[0] if len(found) == 1 else joined(self, [self.reshaped(v, (1, v.size)) for v in found], 1)

    def _fixed(self, constant: Array) -> Value:
        """A constant as a value: nothing of the input, plus the constant."""
        values = constant.astype(np.float32).reshape(-1)
        if not np.array_equal(values, constant.reshape(-1)):
            raise Refused("an output that is a constant has numbers that float32 does not hold")
        size = sum(math.prod(value.one) for value in self.graph.inputs)
        if size * len(values) > _LARGEST_MATRIX:
            raise Refused("an output that is a constant is too large for a matrix")
        source = Value(0, (1, size)) if len(self.graph.inputs) > 1 else Value(0, self.graph.inputs[0].one)
        return self.linear(source, torch.zeros(len(values), size), float_tensor(values), constant.shape)


def joined(b: Building, parts: Sequence[Value | Array], axis: int) -> Value:
    """Values and constants one after the other along an axis."""
    fulls = [part.full if isinstance(part, Value) else part.shape for part in parts]
    if any(len(full) != len(fulls[0]) for full in fulls):
        raise Refused("it joins values of different ranks")
    values = [part for part in parts if isinstance(part, Value)]
    constants = [None if isinstance(part, Value) else part for part in parts]

    def function(*numbered: Array) -> Array:
        rest = iter(numbered)
        blank = [np.zeros(full, dtype=np.int64) for full in fulls]
        arrays = [next(rest) if c is None else zero for c, zero in zip(constants, blank, strict=True)]
        return np.concatenate(arrays, axis=axis)

    def fill() -> Array:
        kind = np.result_type(*(c for c in constants if c is not None))
        zeros = [np.zeros(full, dtype=kind) for full in fulls]
        arrays = [zero if c is None else c for c, zero in zip(constants, zeros, strict=True)]
        return np.concatenate(arrays, axis=axis)

    return b.moved(values, function, fill if len(values) < len(parts) else None)


def _part(x: Array, start: int, stop: int) -> Array:
    return x[..., start:stop]


def _between(fill: Array, index: Array) -> Tensor:
    """The numbers of ``fill`` in its own format where nothing is copied, and zeros."""
    return float_tensor(np.where(index < 0, fill, fill.dtype.type(0)))


def float_tensor(array: Array) -> Tensor:
    """A float32 or float64 tensor with memory of its own."""
    if array.dtype not in (np.float32, np.float64):
        raise Refused(f"its constant holds {array.dtype} numbers, not float32 or float64")
    if not np.isfinite(array).all():
        raise Refused("its constant holds NaN or infinity")
    return torch.from_numpy(np.array(array))


def whole_numbers(array: Array) -> list[int]:
    """The numbers of a shape or of axes."""
    if array.dtype not in (np.int64, np.int32):
        raise Refused("its shape or axes are not whole numbers")
    return [int(n) for n in array.reshape(-1)]
