"""Nodes that read constants alone: what they compute is a constant, too."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gls_es.formats.onnx_building import Refused, whole_numbers
from gls_es.formats.onnx_graph import MOST_VALUES, Array, OnnxNode
from gls_es.formats.onnx_shapes import slices

_TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
"""Of onnx.TensorProto, the element types that constants may have."""


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


def _filled(node: OnnxNode, inputs: list[Array]) -> Array:
    shape = whole_numbers(inputs[0])
    if min(shape, default=0) < 0 or math.prod(shape) > MOST_VALUES:
        raise Refused(f"it makes a constant of shape {shape}")
    value = node.attributes.get("value", np.zeros(1, dtype=np.float32))
    return np.full(shape, value.reshape(-1)[0], dtype=value.dtype)


def _cast(node: OnnxNode, inputs: list[Array]) -> Array:
    kind = _TYPES.get(node.attributes.get("to", 0))
    if kind is None:
        raise Refused("it makes numbers of a type that is not read")
    with np.errstate(invalid="raise"):
        try:
            return inputs[0].astype(kind)
        except FloatingPointError:
            raise Refused("its numbers are too large for the type it makes") from None


def _arithmetic(node: OnnxNode, inputs: list[Array]) -> Array:
    left, right = inputs
    if left.dtype != right.dtype or left.dtype == np.bool_:
        raise Refused("it combines constants of different types")
    if node.op == "Div" and not np.issubdtype(left.dtype, np.floating):
        if (left < 0).any() or (right <= 0).any():
            raise Refused("it divides whole numbers that are not positive")
        return left // right
    with np.errstate(all="ignore"):
        result = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[node.op](left, right)
    if not np.isfinite(result).all():
        raise Refused("it makes a constant that is not finite")
    return np.asarray(result)


def _joined(node: OnnxNode, inputs: list[Array]) -> Array:
    return np.concatenate(inputs, axis=node.attributes["axis"])


def _gathered(node: OnnxNode, inputs: list[Array]) -> Array:
    whole_numbers(inputs[1])
    return np.asarray(np.take(inputs[0], inputs[1], axis=node.attributes.get("axis", 0)))


def _reshaped(_node: OnnxNode, inputs: list[Array]) -> Array:
    sizes = [inputs[0].shape[at] if size == 0 else size for at, size in enumerate(whole_numbers(inputs[1]))]
    return inputs[0].reshape(sizes)


def _expanded(_node: OnnxNode, inputs: list[Array]) -> Array:
    full = np.broadcast_shapes(inputs[0].shape, tuple(whole_numbers(inputs[1])))
    if math.prod(full) > MOST_VALUES:
        raise Refused(f"it makes a constant of shape {full}")
    return np.broadcast_to(inputs[0], full)


def _axes(node: OnnxNode, inputs: list[Array]) -> tuple[int, ...] | None:
    given = node.attributes.get("axes")
    if given is None and len(inputs) > 1:
        given = whole_numbers(inputs[1])
    return None if given is None else tuple(given)


def _unsqueezed(node: OnnxNode, inputs: list[Array]) -> Array:
    return np.expand_dims(inputs[0], _axes(node, inputs) or ())


def _squeezed(node: OnnxNode, inputs: list[Array]) -> Array:
    return np.squeeze(inputs[0], _axes(node, inputs))


def _sliced(node: OnnxNode, inputs: list[Array]) -> Array:
    given: list[Array | None] = [None, *inputs[1:], *[None] * (5 - len(inputs))]
    return inputs[0][tuple(slices(node, given, inputs[0].shape))]


def _compared(node: OnnxNode, inputs: list[Array]) -> Array:
    compare = {"Equal": np.equal, "Less": np.less, "Greater": np.greater}[node.op]
    return np.asarray(compare(inputs[0], inputs[1]))


def _chosen(_node: OnnxNode, inputs: list[Array]) -> Array:
    if inputs[0].dtype != np.bool_ or inputs[1].dtype != inputs[2].dtype:
        raise Refused("it chooses between constants of different types")
    return np.where(inputs[0], inputs[1], inputs[2])


def _remainder(node: OnnxNode, inputs: list[Array]) -> Array:
    if node.attributes.get("fmod", 0) or (whole_numbers(inputs[1]) and (inputs[1] == 0).any()):
        raise Refused("it takes remainders of zero, or with the dividend's sign")
    whole_numbers(inputs[0])
    return np.asarray(np.mod(inputs[0], inputs[1]))


def _range(_node: OnnxNode, inputs: list[Array]) -> Array:
    start, stop, step = (number for part in inputs for number in whole_numbers(part))
    if step == 0 or (stop - start) / step > MOST_VALUES:
        raise Refused(f"it makes the numbers from {start} to {stop} in steps of {step}")
    return np.arange(start, stop, step, dtype=inputs[0].dtype)


def _product(node: OnnxNode, inputs: list[Array]) -> Array:
    whole_numbers(inputs[0])
    keep = bool(node.attributes.get("keepdims", 1))
    return np.asarray(np.prod(inputs[0], axis=_axes(node, inputs), keepdims=keep, dtype=inputs[0].dtype))


def _extreme(node: OnnxNode, inputs: list[Array]) -> Array:
    if len({part.dtype for part in inputs}) != 1:
        raise Refused("it combines constants of different types")
    pick = np.maximum if node.op == "Max" else np.minimum
    return np.asarray(pick.reduce(np.broadcast_arrays(*inputs)))


_FOLDS: dict[str, Callable[[OnnxNode, list[Array]], Array]] = {
    "Add": _arithmetic,
    "Cast": _cast,
    "Concat": _joined,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Div": _arithmetic,
    "Equal": _compared,
    "Expand": _expanded,
    "Gather": _gathered,
    "Greater": _compared,
    "Identity": lambda _node, inputs: inputs[0],
    "Less": _compared,
    "Max": _extreme,
    "Min": _extreme,
    "Mod": _remainder,
    "Mul": _arithmetic,
    "Neg": lambda _node, inputs: -inputs[0],
    "Range": _range,
    "ReduceProd": _product,
    "Reshape": _reshaped,
    "Shape": lambda node, inputs: shape_of(node, inputs[0].shape),
    "Slice": _sliced,
    "Squeeze": _squeezed,
    "Sub": _arithmetic,
    "Transpose": _moved,
    "Unsqueeze": _unsqueezed,
    "Where": _chosen,
}


def shape_of(node: OnnxNode, full: tuple[int, ...]) -> Array:
    """What a Shape node says of a shape, or of a part of it."""
    start, end = node.attributes.get("start", 0), node.attributes.get("end", len(full))
    return np.asarray(full[slice(start, end)], dtype=np.int64)


def folded(op: str) -> Callable[[OnnxNode, list[Array]], Array] | None:
    """What an operator makes of constants; None for one that is not folded."""
    fold = _FOLDS.get(op)
    if fold is None:
        return None

    def checked(node: OnnxNode, inputs: list[Array]) -> Array:
        try:
            return fold(node, inputs)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise Refused(f"its constants do not fit ({' '.join(str(error).split())[:80]})") from None

    return checked


CONSTANTS = {op: fold for op in _FOLDS if (fold := folded(op)) is not None}
"""By operator, what it makes of constants."""
