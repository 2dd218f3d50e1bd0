"""What ONNX's elementwise operators become: ReLU and what can be said with it, sums, arithmetic with constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from gls_es.formats.onnx_activations import product
from gls_es.formats.onnx_building import Building, Refused, Value, float_tensor
from gls_es.formats.onnx_graph import Array, OnnxNode, Shape
from gls_es.formats.onnx_module import Difference, Extreme, Function, Sum

_FLOATS = {"float32": 1, "float64": 11}  # of onnx.TensorProto, the element types


def relu(b: Building, node: OnnxNode) -> Value:
    """ReLU."""
    return _positive(b, b.activation(node))


def same(b: Building, node: OnnxNode) -> Value:
    """Identity: the value itself."""
    return b.activation(node)


def cast(b: Building, node: OnnxNode) -> Value:
    """Cast to the format that the network computes in: the value itself."""
    kind = b.graph.execution
    if node.attributes.get("to") != _FLOATS[kind]:
        raise Refused(f"an activation stays one of {kind} numbers, and its Cast makes others")
    return b.activation(node)


def dropout(b: Building, node: OnnxNode) -> Value:
    """Dropout outside of training: the value itself."""
    training = b.optional(node, 2)
    if training is not None and bool(training.any()):
        raise Refused("dropout in training mode has no fixed function")
    return b.activation(node)


def negated(b: Building, node: OnnxNode) -> Value:
    """Neg."""
    return _times(b, b.activation(node), -1.0)


def power(b: Building, node: OnnxNode) -> Value:
    """Pow with the exponent 1."""
    if not bool((b.constant(node, 1) == 1).all()):
        raise Refused("only the power 1 has bounds here")
    return b.activation(node)


def arithmetic(b: Building, node: OnnxNode) -> Value:
    """Add, Sub, Mul and Div: of two activations, or of one and a constant."""
    if len(node.inputs) != 2:
        raise Refused("it takes two inputs")
    held = [name in b.constants for name in node.inputs]
    if not any(held):
        return _of_two(b, node)
    source, constant = b.activation(node, held.index(False)), b.constant(node, held.index(True))
    return _with_constant(b, node, source, constant, first=held[0])


def total(b: Building, node: OnnxNode) -> Value:
    """Sum of activations and constants."""
    parts = [name for name in node.inputs if name not in b.constants]
    values = [b.activation(node, node.inputs.index(name)) for name in parts]
    constants = [b.constants[name] for name in node.inputs if name in b.constants]
    full = _broadcast(*(value.full for value in values), *(constant.shape for constant in constants))
    found = b.summed([_expanded(b, value, full) for value in values])
    for constant in constants:
        found = b.with_constant("Add", found, _ranked(constant, full))
    return found


def extreme(b: Building, node: OnnxNode) -> Value:
    """Max and Min of activations and constants."""
    names = list(node.inputs)
    values = [b.activation(node, at) for at, name in enumerate(names) if name not in b.constants]
    constants = [b.constants[name] for name in names if name in b.constants]
    full = _broadcast(*(value.full for value in values), *(constant.shape for constant in constants))
    found = _expanded(b, values[0], full)
    for value in values[1:]:
        found = larger(b, found, _expanded(b, value, full), least=node.op == "Min")
    for constant in constants:
        found = _limited(b, found, constant, least=node.op == "Min")
    return found


def clip(b: Building, node: OnnxNode) -> Value:
    """Clip, whose ends may be left out; between two numbers it is one curve, with tighter lines than two ReLUs."""
    found = b.activation(node)
    ends = [_end(b, node, position, name) for position, name in ((1, "min"), (2, "max"))]
    ends = [
        None if end is None or _endless(b, end, least=least) else end
        for end, least in zip(ends, (False, True), strict=True)
    ]
    low, high = (None if end is None or end.size != 1 else float(end.reshape(())) for end in ends)
    if low is not None and high is not None and -math.inf < low <= high < math.inf:
        return b.add(Function(f"Clip({low}, {high})", lambda x: x.clamp(low, high)), (found,), found.full)
    for end, least in zip(ends, (False, True), strict=True):
        if end is not None:
            found = _limited(b, found, end, least=least)
    return found


def _end(b: Building, node: OnnxNode, position: int, name: str) -> Array | None:
    """An end of a Clip: an input, or an attribute in old files."""
    if name in node.attributes:
        return np.asarray(node.attributes[name], dtype=np.float32)
    return b.optional(node, position)


def larger(b: Building, x: Value, y: Value, *, least: bool = False) -> Value:
    """max(x, y) of two activations of one shape, or min."""
    return b.add(Extreme(least=least), (y, x), x.full)


def _limited(b: Building, x: Value, end: Array, *, least: bool) -> Value:
    """max(x, end), or min; the value itself where the end is none."""
    if _endless(b, end, least=least):
        return x
    ranked = _ranked(end, x.full)
    number = float(float_tensor(ranked).reshape(-1)[0])
    if bool((ranked == number).all()):  # told apart from a tensor when it is traced: far off, it costs no rounding
        name, sides = ("Min", (None, number)) if least else ("Max", (number, None))
        return b.add(Function(f"{name}({number})", lambda z: z.clamp(*sides)), (x,), x.full)
    return b.with_constant("Min" if least else "Max", x, ranked)


def _endless(b: Building, end: Array, *, least: bool) -> bool:
    """Whether no number of the network's format lies beyond an end: exporters write the largest for none."""
    most = np.finfo(b.graph.execution).max
    return np.issubdtype(end.dtype, np.floating) and bool((end >= most if least else end <= -most).all())


def _positive(b: Building, x: Value) -> Value:
    return b.add(nn.ReLU(), (x,), x.full)


def _times(b: Building, x: Value, factor: float) -> Value:
    return b.with_constant("Mul", x, np.full([1] * len(x.full), factor, dtype=np.float32))


def _with_constant(b: Building, node: OnnxNode, source: Value, constant: Array, *, first: bool) -> Value:
    full = _broadcast(source.full, constant.shape)
    source = _expanded(b, source, full)
    if node.op == "Div" and (first or not bool(constant.all())):
        raise Refused("an activation may be divided by a constant other than zero only")
    value = _ranked(constant, full)
    before = b.operations[source.index - 1] if source.index else None
    if node.op == "Add" and isinstance(before, nn.Linear) and _is_bias(b, source, before):
        bias = np.broadcast_to(value, full).reshape(-1)
        before.register_parameter("bias", nn.Parameter(float_tensor(bias)))
        return source
    return b.with_constant(node.op, source, value, first=first)


def _of_two(b: Building, node: OnnxNode) -> Value:
    left, right = b.activation(node, 0), b.activation(node, 1)
    if node.op == "Mul" and left.full == right.full:
        found = product(b, left, right)
        if found is not None:
            return found
    if node.op not in ("Add", "Sub"):
        raise Refused("activations may be multiplied with and divided by constants only")
    full = _broadcast(left.full, right.full)
    pair = (_expanded(b, left, full), _expanded(b, right, full))
    return b.add(Sum() if node.op == "Add" else Difference(), pair, full)


def _broadcast(*shapes: Sequence[int]) -> Shape:
    try:
        return tuple(np.broadcast_shapes(*map(tuple, shapes)))
    except ValueError:
        listed = ", ".join(str(tuple(shape)) for shape in shapes)
        raise Refused(f"it combines shapes that do not fit: {listed}") from None


def _expanded(b: Building, value: Value, full: Shape) -> Value:
    """A value repeated along axes where it has size 1."""
    if value.full == full:
        return value
    if value.size == np.prod(full):
        return b.reshaped(value, full)
    ranked = (1,) * (len(full) - len(value.full)) + value.full
    return b.moved_one(value, lambda x: np.broadcast_to(x.reshape(ranked), full))


def _ranked(constant: Array, full: Shape) -> Array:
    """A constant with as many axes as the value that it meets, without enlarging it."""
    ranked = constant.reshape((1,) * (len(full) - constant.ndim) + constant.shape)
    if ranked.ndim > len(full) or any(n not in (1, m) for n, m in zip(ranked.shape, full, strict=True)):
        raise Refused(f"its constant of shape {constant.shape} does not fit values of shape {full}")
    return ranked


def _is_bias(b: Building, source: Value, before: nn.Linear) -> bool:
    """Whether an addition gives its bias to the matrix product before it, which nobody else reads."""
    read_once = all(b.readers[name] == 1 for name, place in b.places.items() if place and place.index == source.index)
    return before.bias is None and source.size == before.out_features and read_once
