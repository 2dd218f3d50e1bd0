"""What ONNX's operators that put numbers or copies between values become: padding, and choices by constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gls_es.formats.onnx_building import Building, Refused, Value, whole_numbers
from gls_es.formats.onnx_graph import MOST_VALUES, Array, OnnxNode

_MODES = {b"constant": "constant", b"reflect": "reflect", b"edge": "edge", b"wrap": "wrap"}


def where(b: Building, node: OnnxNode) -> Value:
    """Where, by constant truth values."""
    condition = b.constant(node, 0)
    if condition.dtype != np.bool_:
        raise Refused("its condition holds no truth values")
    names = node.inputs[1:3]
    ends: list[Value | Array] = [
        b.constants[name] if name in b.constants else b.activation(node, at) for at, name in enumerate(names, 1)
    ]
    shapes = [end.full if isinstance(end, Value) else end.shape for end in ends]
    try:
        full = np.broadcast_shapes(condition.shape, *shapes)
    except ValueError:
        raise Refused(f"it combines shapes that do not fit: {condition.shape}, {shapes[0]}, {shapes[1]}") from None
    values = [end for end in ends if isinstance(end, Value)]

    def function(*numbered: Array) -> Array:
        rest = iter(numbered)
        pair = [next(rest) if isinstance(end, Value) else np.zeros((), dtype=np.int64) for end in ends]
        return np.broadcast_to(np.where(condition, *pair), full)

    def fill() -> Array:
        (constant,) = (end for end in ends if not isinstance(end, Value))
        pair = [np.zeros((), dtype=constant.dtype) if isinstance(end, Value) else end for end in ends]
        return np.broadcast_to(np.where(condition, *pair), full)

    return b.moved(values, function, fill if len(values) < 2 else None)


def pad(b: Building, node: OnnxNode) -> Value:
    """Pad with a constant or with copies; a negative width cuts off."""
    source = b.activation(node)
    mode = _MODES.get(node.attributes.get("mode", b"constant"))
    if mode is None:
        raise Refused("its mode has no bounds here")
    given, axes = b.optional(node, 1), b.optional(node, 3)
    pads = node.attributes.get("pads", []) if given is None else whole_numbers(given)
    value = b.optional(node, 2)
    number = np.float32(node.attributes.get("value", 0.0)) if value is None else value.reshape(-1)[0]
    rank = len(source.full)
    named = list(range(rank)) if axes is None else [axis % rank for axis in whole_numbers(axes)]
    if len(pads) != 2 * len(named):
        raise Refused(f"pads={pads} do not fit values of shape {source.full}")
    around = [(0, 0)] * rank
    for at, axis in enumerate(named):
        around[axis] = (pads[at], pads[at + len(named)])
        if around[axis] != (0, 0):
            b.axis(axis, rank)
        if sum(min(side, 0) for side in around[axis]) <= -source.full[axis]:
            raise Refused(f"pads={pads} do not fit values of shape {source.full}")
    return padded(b, source, around, number, mode=mode)


def padded(
    b: Building, source: Value, around: list[tuple[int, int]], number: Any = None, *, mode: str = "constant"
) -> Value:
    """A value with a border, as wide as said before and behind each axis; what is negative is cut off first.

    Args:
        b: the module so far.
        source: the value.
        around: the widths.
        number: what the border holds, a NumPy number in the format that it keeps; None for zeros.
        mode: NumPy's name of what the border is made of.
    """
    wider = [(max(p, 0), max(q, 0)) for p, q in around]
    grown = math.prod(size + sum(sides) for size, sides in zip(source.full, wider, strict=True))
    if grown > MOST_VALUES:
        raise Refused(f"it pads to {grown:,} values, which is too many")
    kept = tuple(slice(max(-p, 0), n + min(q, 0)) for n, (p, q) in zip(source.full, around, strict=True))

    def border() -> Array:
        return np.pad(np.zeros(source.full, dtype=number.dtype)[kept], wider, constant_values=number)

    def grow(x: Array) -> Array:
        return np.pad(x[kept], wider, mode=mode)  # type: ignore[call-overload, no-any-return]

    return b.moved((source,), grow, border if number is not None and number != 0 and mode == "constant" else None)
