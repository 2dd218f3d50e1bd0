"""An ONNX file as checked plain values: constants as NumPy arrays, nodes with their attributes, inputs and outputs.

The file may be hostile. Nothing is read but the file itself and files of its folder that hold its weights, and sizes
are checked before anything of that size is made.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gls_es.errors import FormatError
from gls_es.formats.extras import library
from gls_es.formats.files import LARGEST, read_file, sha256, unpacked
from gls_es.formats.onnx_external import include_other_files
from gls_es.formats.onnx_outputs import keep_output, leave_out_softmax

Array = NDArray[Any]
Shape = tuple[int, ...]

MOST_VALUES = 2**27
"""Numbers that one activation of one image may have at most."""
OPSETS = range(7, 28)
"""Versions of the operators that are read; before 7, arithmetic and BatchNormalization meant something else."""


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One node: its name and operator for messages, the names of what it reads and makes, its attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name[:60]!r} ({self.op[:40]})"

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number. All are float32 ones in ONNX, in networks of float64, too; so are defaults."""
        return float(np.float32(self.attributes.get(name, default)))


@dataclass(frozen=True)
class Signature:
    """A model's input or output: its name, its element type in ONNX's words, its sizes, None where one is open."""

    name: str
    kind: str
    sizes: tuple[int | None, ...]

    @property
    def one(self) -> Shape:
        """The shape of what is executed at once: an open batch axis holds one image."""
        return tuple(1 if size is None else size for size in self.sizes)

    def __str__(self) -> str:
        return f"{self.name[:60]!r} {self.kind} [{','.join('?' if size is None else str(size) for size in self.sizes)}]"


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """What a file says.

    Attributes:
        path: where it was.
        data: the model in its serial form, without nodes and tensors that the output does not depend on.
        digest: SHA-256 of the file, and of those beside it that hold its weights.
        inputs: names and sizes, in the model's order.
        outputs: likewise.
        constants: the initializers by name, as far as they are used.
        nodes: those that the output depends on, in an order in which they can be computed.
        left_out: a classifier's last operator, "Softmax" or "LogSoftmax", if it was left out.
    """

    path: Path
    data: bytes
    digest: str
    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    constants: dict[str, Array]
    nodes: tuple[OnnxNode, ...]
    left_out: str | None = None

    @property
    def execution(self) -> str:
        """The format that the network computes in, "float32" or "float64"."""
        return self.inputs[0].kind

    @property
    def input_shape(self) -> Shape:
        """The module's input without its axis for images: a first axis of size 1 is that one."""
        if len(self.inputs) > 1:
            return (sum(math.prod(value.one) for value in self.inputs),)
        full = self.inputs[0].one
        return full[1:] if len(full) > 1 and full[0] == 1 else full or (1,)


def read_onnx(path: str | Path, *, output: str | None = None, classifier: bool = False) -> OnnxGraph:
    """Read an ONNX file.

    Args:
        path: the file.
        output: the name of the one output that is read; None for all of them.
        classifier: whether only the class is asked for, so that a last Softmax is left out.

    Raises:
        ConfigError: onnx is not installed.
        FormatError: the file cannot be read, is no ONNX model or a damaged one, keeps weights outside of its
            folder, or does not have floating-point inputs of known shapes and outputs.
    """
    path = Path(path)
    data = unpacked(path, read_file(path), largest=LARGEST)
    onnx = library("onnx", "reading ONNX")
    try:
        model = onnx.load_model_from_string(data)
        beside = include_other_files(path, model)
        _check_model(path, model, onnx)
    except FormatError:
        raise
    except Exception as error:  # protobuf and the checker raise many
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].replace(str(path), "")[:150].rstrip(". ")
        raise FormatError(f"{path}: not an ONNX model, or a damaged one ({reason}).") from error
    _check_operators(path, model)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if not inputs or not model.graph.output or model.graph.sparse_initializer:
        raise FormatError(f"{path}: has no inputs, no outputs, or sparse tensors, and cannot be bounded.")
    if output is not None:
        keep_output(path, model.graph, output)
    left_out = leave_out_softmax(path, model.graph) if classifier else None
    if len({value.type.tensor_type.elem_type for value in inputs}) > 1:
        raise FormatError(f"{path}: has inputs of different types; all must be float32, or all float64.")
    live, limits = _live(model.graph), _limits(model.graph)
    read = {name for number in live for name in model.graph.node[number].input}
    return OnnxGraph(
        path=path,
        data=_without_the_rest(model.SerializeToString() if beside or output or left_out else data, model, live, read),
        digest=sha256(data + beside),
        inputs=tuple(_input(path, value, onnx) for value in inputs),
        outputs=tuple(_signature(value, onnx) for value in model.graph.output),
        constants={
            name: _array(path, tensor, onnx, limit=name in limits) for name, tensor in held.items() if name in read
        },
        nodes=tuple(_node(path, model.graph.node[number], number, onnx, limits) for number in live),
        left_out=left_out,
    )


def _live(graph: Any) -> list[int]:
    """The nodes that the output depends on, in the file's order, which the checker has found to be one of reading."""
    wanted, found = {value.name for value in graph.output}, []
    for number in range(len(graph.node) - 1, -1, -1):
        node = graph.node[number]
        if any(name in wanted for name in node.output if name):
            wanted.update(node.input)
            found.append(number)
    return found[::-1]


def _limits(graph: Any) -> set[str]:
    """What is read as an end by Clip, Max and Min alone: infinity may stand there for none."""
    ends, others = set(), {value.name for value in graph.output}
    for node in graph.node:
        first = {"Clip": 1, "Max": 0, "Min": 0}.get(node.op_type, len(node.input))
        others.update(node.input[:first])
        ends.update(node.input[first:])
    return ends - others


def _without_the_rest(data: bytes, model: Any, live: Sequence[int], read: Collection[str]) -> bytes:
    """The model without dead nodes and tensors: other readers refuse what they cannot execute even where it is dead."""
    graph = model.graph
    nodes = [graph.node[number] for number in live]
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(nodes) == len(graph.node) and len(tensors) == len(graph.initializer):
        return data
    rest = type(model)()
    rest.CopyFrom(model)
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name in read or value.name not in held]
    for field, kept in (("node", nodes), ("initializer", tensors), ("input", inputs)):
        rest.graph.ClearField(field)
        getattr(rest.graph, field).extend(kept)
    rest.graph.ClearField("value_info")
    smaller: bytes = rest.SerializeToString(deterministic=True)
    return smaller


def _check_model(path: Path, model: Any, onnx: Any) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        _check_names(path, model, onnx)
        raise


def _check_names(path: Path, model: Any, onnx: Any) -> None:
    """Refuse what only looks like an operator of ONNX: tf2onnx keeps TensorFlow's where it knows no translation."""
    own = {(function.domain, function.name) for function in model.functions}
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain in ("", "ai.onnx")}
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and node.op_type not in known and (node.domain, node.op_type) not in own:
            hint = _NO_OPERATORS.get(node.op_type, "write the network with operations that the exporter translates")
            raise FormatError(
                f"{path}: node {node.name[:60]!r} is {node.op_type[:40]!r}, which is no operator of ONNX, so that "
                f"nothing can run the file; {hint}."
            )


_NO_OPERATORS = {
    "Erfc": "Keras' exact GELU on TensorFlow makes it: use keras.activations.gelu(x, approximate=True) there"
}
"""What tf2onnx 1.17.0 was seen to write, and what helps."""


def _check_operators(path: Path, model: Any) -> None:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if version not in OPSETS:
        raise FormatError(
            f"{path}: uses version {version} of ONNX's operators; versions {OPSETS[0]} to {OPSETS[-1]} are read."
        )
    if model.functions:
        raise FormatError(f"{path}: defines functions of its own; write the model without them (inline them).")


def _array(path: Path, tensor: Any, onnx: Any, *, limit: bool = False) -> Array:
    """A tensor's numbers; their count is compared with the shape first. A limit may be infinite."""
    name = tensor.name[:60]
    kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower() if tensor.data_type else "?"
    size = math.prod(tensor.dims) if all(length >= 0 for length in tensor.dims) else -1
    width = {"float": 4, "double": 8, "int64": 8, "int32": 4, "bool": 1}.get(kind)
    if width is None:
        raise FormatError(f"{path}: tensor {name!r} holds {kind} numbers; networks of float32 or float64 are read.")
    lists = {"float": tensor.float_data, "double": tensor.double_data, "int64": tensor.int64_data}
    listed = lists.get(kind, tensor.int32_data)
    found = len(tensor.raw_data) / width if tensor.HasField("raw_data") else len(listed)
    if found != size:
        raise FormatError(f"{path}: tensor {name!r} holds {found:g} numbers, not those of shape {list(tensor.dims)}.")
    array: Array = onnx.numpy_helper.to_array(tensor)
    if kind in ("float", "double") and not (np.isfinite(array) | (limit & np.isinf(array))).all():
        raise FormatError(f"{path}: tensor {name!r} holds NaN or infinity, and no bound is about such a network.")
    return array


def _signature(value: Any, onnx: Any) -> Signature:
    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    sizes = (
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value != -1 else None for axis in tensor.shape.dim
    )
    return Signature(value.name, {"float": "float32", "double": "float64"}.get(kind, kind), tuple(sizes))


def _input(path: Path, value: Any, onnx: Any) -> Signature:
    """An input of known sizes; only that of a batch, the first of several, may be open."""
    found = _signature(value, onnx)
    if found.kind not in ("float32", "float64"):
        raise FormatError(f"{path}: the input {value.name[:60]!r} is not of float32 or float64 numbers.")
    inner = found.sizes[1:] if len(found.sizes) > 1 else found.sizes
    if None in inner or min(found.one, default=1) < 1 or math.prod(found.one) > MOST_VALUES:
        raise FormatError(f"{path}: the input {found} must have known sizes; only a batch axis in front may be open.")
    return found


def _node(path: Path, node: Any, number: int, onnx: Any, limits: Collection[str]) -> OnnxNode:
    attributes: dict[str, Any] = {}
    limit = node.op_type == "Clip" or (node.op_type == "Constant" and all(name in limits for name in node.output))
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            attributes[attribute.name] = _array(path, attribute.t, onnx, limit=limit)
        elif attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            attributes[attribute.name] = None  # branches and loops are refused by their operators' names
        else:
            found = onnx.helper.get_attribute_value(attribute)
            numbers = np.array([attribute.f, *attribute.floats])
            if not (np.isfinite(numbers) | (limit & np.isinf(numbers))).all():
                what = f"attribute {attribute.name[:40]!r} of node {node.name[:60]!r} ({node.op_type[:40]})"
                raise FormatError(f"{path}: {what} holds NaN or infinity, and no bound is about such a network.")
            attributes[attribute.name] = list(found) if not isinstance(found, (int, float, bytes)) else found
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return OnnxNode(node.name or f"node {number}", op, tuple(node.input), tuple(node.output), attributes)
