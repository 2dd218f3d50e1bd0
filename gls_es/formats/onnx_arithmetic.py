"""What ONNX's elementwise operators become: activations, sums of two values, arithmetic with constants."""

from __future__ import annotations

from torch import Tensor, nn

from gls_es.formats.onnx_building import Building, Refused, float_tensor
from gls_es.formats.onnx_graph import OnnxNode, Shape
from gls_es.formats.onnx_module import Difference, Sum, WithConstant


def relu(b: Building, node: OnnxNode) -> int:
    """ReLU."""
    source = b.activation(node)
    return b.add(nn.ReLU(), (source,), b.shapes[source])


def same(b: Building, node: OnnxNode) -> int:
    """Identity: the value itself."""
    return b.activation(node)


def dropout(b: Building, node: OnnxNode) -> int:
    """Dropout outside of training: the value itself."""
    training = b.optional(node, 2)
    if training is not None and bool(training.any()):
        raise Refused("dropout in training mode has no fixed function")
    return b.activation(node)


def arithmetic(b: Building, node: OnnxNode) -> int:
    """Add, Sub, Mul and Div: of two activations, or of one and a constant."""
    if len(node.inputs) != 2:
        raise Refused("it takes two inputs")
    held = [name in b.constants for name in node.inputs]
    if not any(held):
        return _of_two(b, node)
    source = b.activation(node, held.index(False))
    value, first = float_tensor(b.constant(node, held.index(True))), held[0]
    value = _per_image(value, b.shapes[source])
    if node.op == "Div" and (first or not bool(value.all())):
        raise Refused("an activation may be divided by a constant other than zero only")
    if node.op == "Add" and _is_bias(b, source, value):
        b.operations[source - 1].register_parameter("bias", nn.Parameter(value.expand(b.shapes[source]).clone()))
        return source
    return b.add(WithConstant(node.op, value, first=first), (source,), b.shapes[source])


def _of_two(b: Building, node: OnnxNode) -> int:
    left, right = b.activation(node, 0), b.activation(node, 1)
    if node.op not in ("Add", "Sub"):
        raise Refused("activations may be multiplied with and divided by constants only")
    if b.shapes[left] != b.shapes[right]:
        raise Refused(f"it combines activations of shapes {b.shapes[left]} and {b.shapes[right]}")
    return b.add(Sum() if node.op == "Add" else Difference(), (left, right), b.shapes[left])


def _per_image(value: Tensor, shape: Shape) -> Tensor:
    """A constant without its batch axis; it must not enlarge what it is combined with."""
    rank = len(shape)
    if value.dim() == rank + 1 and value.shape[0] == 1:
        value = value[0]
    sizes = (*[1] * (rank - value.dim()), *value.shape)
    if value.dim() > rank or any(n not in (1, m) for n, m in zip(sizes, shape, strict=True)):
        raise Refused(f"its constant of shape {tuple(value.shape)} does not fit values of shape {shape}")
    return value


def _is_bias(b: Building, source: int, value: Tensor) -> bool:
    """Whether an addition gives its bias to the matrix product before it, which nobody else reads."""
    before = b.operations[source - 1] if source else None
    read_once = all(b.readers[name] == 1 for name, place in b.places.items() if place == source)
    return isinstance(before, nn.Linear) and before.bias is None and value.dim() <= 1 and read_once
