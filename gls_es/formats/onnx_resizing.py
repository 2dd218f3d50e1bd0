"""What ONNX's operators that enlarge, shrink, tile and shuffle images become: each output is a copy of one value."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from gls_es.formats.onnx_building import Building, Refused, Value, whole_numbers
from gls_es.formats.onnx_graph import MOST_VALUES, Array, OnnxNode, Shape

_OLD = b"before operator set 11"
"""How onnxruntime rounds there, which says nothing of it: down where there become more values, else up."""


def resize(b: Building, node: OnnxNode) -> Value:
    """Resize and Upsample to the nearest value."""
    source = b.activation(node)
    attributes = node.attributes
    if attributes.get("mode", b"nearest") != b"nearest" or attributes.get("antialias", 0) or "axes" in attributes:
        raise Refused("only the nearest value has bounds here, mode='nearest'")
    scales, sizes = _wanted(b, node, source.full)
    old = _old(node)
    way = attributes.get("coordinate_transformation_mode", b"asymmetric" if old else b"half_pixel")
    rounding = attributes.get("nearest_mode", _OLD if old else b"round_prefer_floor")
    if math.prod(sizes) > MOST_VALUES:
        raise Refused(f"it makes values of shape {sizes}")
    lines = []
    for axis, (n, m, scale) in enumerate(zip(source.full, sizes, scales, strict=True)):
        if scale != 1:
            b.axis(axis, len(sizes))
        lines.append(_places(n, m, scale, way, rounding) if scale != 1 else np.arange(n))
    return b.moved_one(source, lambda x: x[np.ix_(*lines)])


def _old(node: OnnxNode) -> bool:
    """Whether a node is of operator set 10 or below, where Resize has two inputs and chooses as Upsample does."""
    return node.op == "Upsample" or len(node.inputs) == 2


def _wanted(b: Building, node: OnnxNode, full: Shape) -> tuple[list[Fraction], Shape]:
    """The scale and the size of each axis."""
    old = _old(node)
    given = b.optional(node, 1 if old else 2)
    listed = node.attributes.get("scales") if given is None or given.size == 0 else given.reshape(-1).tolist()
    to = None if old else b.optional(node, 3)
    if to is not None and to.size:
        if node.attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
            raise Refused("keep_aspect_ratio_policy has no bounds here")
        sizes = whole_numbers(to)
        if len(sizes) == len(full) and min(sizes) > 0:
            return [Fraction(m, n) for n, m in zip(full, sizes, strict=True)], tuple(sizes)
    elif listed and len(listed) == len(full) and all(math.isfinite(s) and s > 0 for s in listed):
        scales = [Fraction(float(s)) for s in listed]
        sizes = [math.floor(n * s) for n, s in zip(full, scales, strict=True)]
        if min(sizes) > 0:
            return scales, tuple(sizes)
    raise Refused("its scales or sizes do not fit its input")


def _places(n: int, m: int, scale: Fraction, way: bytes, rounding: bytes) -> Array:
    """Which of ``n`` values each of ``m`` copies, where executors agree.

    onnxruntime computes in float32, and leaves all values where they are if there remain as many.
    """
    exactly = [_nearest(i, n, m, scale, way, rounding, Fraction) for i in range(m)]
    single = [_nearest(i, n, m, np.float32(float(scale)), way, rounding, np.float32) for i in range(m)]
    if exactly != (single if m != n else [*range(n)]):
        raise Refused(f"which of {n} values its {m} copy is a matter of rounding; use a whole number as its scale")
    return np.array(exactly)


def _nearest(i: int, n: int, m: int, scale: Any, way: bytes, rounding: bytes, number: Callable[[Any], Any]) -> int:
    """The place of ``n`` that output ``i`` of ``m`` copies, computed in one kind of number."""
    half = number(0.5)
    if way == b"asymmetric":
        place = number(i) / scale
    elif way == b"half_pixel" or (way == b"pytorch_half_pixel" and m > 1):
        place = (number(i) + half) / scale - half
    elif way == b"pytorch_half_pixel":
        place = number(0)
    elif way == b"align_corners":
        place = number(i) * number(n - 1) / number(m - 1) if m > 1 else number(0)
    else:
        raise Refused(f"coordinate_transformation_mode={way!r} has no bounds here")
    rounded: dict[bytes, int] = {
        b"floor": math.floor(place),
        b"ceil": math.ceil(place),
        b"round_prefer_floor": math.ceil(place - half),
        b"round_prefer_ceil": math.floor(place + half),
    }
    rounded[_OLD] = rounded[b"floor" if scale >= 1 else b"ceil"]
    if rounding not in rounded:
        raise Refused(f"nearest_mode={rounding!r} has no bounds here")
    place = rounded[rounding]
    return min(max(place, 0), n - 1)


def tile(b: Building, node: OnnxNode) -> Value:
    """Tile by constant numbers."""
    source, repeats = b.activation(node), whole_numbers(b.constant(node, 1))
    if len(repeats) != len(source.full) or min(repeats) < 1 or source.size * math.prod(repeats) > MOST_VALUES:
        raise Refused(f"it repeats values of shape {source.full} {repeats} times")
    for axis, count in enumerate(repeats):
        if count > 1:
            b.axis(axis, len(repeats))
    return b.moved_one(source, lambda x: np.tile(x, repeats))


def depth_to_space(b: Building, node: OnnxNode) -> Value:
    """DepthToSpace, in either order, and SpaceToDepth."""
    source, size = b.activation(node), int(node.attributes["blocksize"])
    order = node.attributes.get("mode", b"DCR")
    if len(source.full) != 4 or size < 1 or order not in (b"DCR", b"CRD"):
        raise Refused("it does not rearrange images of channels")
    images, channels, height, width = source.full

    def spread(x: Array) -> Array:
        if order == b"DCR":
            parts = x.reshape(images, size, size, -1, height, width).transpose(0, 3, 4, 1, 5, 2)
        else:
            parts = x.reshape(images, -1, size, size, height, width).transpose(0, 1, 4, 2, 5, 3)
        return parts.reshape(images, -1, height * size, width * size)

    def gathered(x: Array) -> Array:
        parts = x.reshape(images, channels, height // size, size, width // size, size)
        return parts.transpose(0, 3, 5, 1, 2, 4).reshape(images, -1, height // size, width // size)

    forth = node.op == "DepthToSpace"
    if channels % size**2 if forth else height % size or width % size:
        raise Refused(f"blocksize={size} does not divide {source.full}")
    return b.moved_one(source, spread if forth else gathered)
