"""What ONNX's operators that give the same numbers another shape become."""

from __future__ import annotations

import math

from torch import nn

from gls_es.formats.onnx_building import Building, Refused, whole_numbers
from gls_es.formats.onnx_graph import OnnxNode, Shape
from gls_es.formats.onnx_module import Shaped


def _shaped(b: Building, source: int, shape: Shape) -> int:
    before = b.shapes[source]
    if math.prod(shape) != math.prod(before) or not shape:
        raise Refused(f"it turns values of shape {before} into {shape} per image")
    if shape == before:
        return source
    return b.add(nn.Flatten() if len(shape) == 1 else Shaped(shape), (source,), shape)


def flatten(b: Building, node: OnnxNode) -> int:
    """Flatten of all axes but the batch."""
    source = b.activation(node)
    axis, rank = node.attributes.get("axis", 1), len(b.shapes[source]) + 1
    if axis not in (1, 1 - rank):
        raise Refused(f"axis={axis} mixes the images of a batch")
    return _shaped(b, source, (math.prod(b.shapes[source]),))


def reshape(b: Building, node: OnnxNode) -> int:
    """The target's first size must stand for the batch: 1 or -1, or 0, which copies it."""
    source = b.activation(node)
    before, target = (1, *b.shapes[source]), whole_numbers(b.constant(node, 1))
    if node.attributes.get("allowzero", 0) and 0 in target:
        raise Refused("allowzero has no bounds here")
    if any(size == 0 and axis >= len(before) for axis, size in enumerate(target)):
        raise Refused(f"it copies an axis that is not there: {target}")
    sizes = [before[axis] if size == 0 else size for axis, size in enumerate(target)]
    if len(sizes) < 2 or min(sizes) < -1 or sizes.count(-1) > 1 or sizes[0] not in (1, -1):
        raise Refused(f"it reshapes to {target}, whose first axis is not the batch")
    known = math.prod(size for size in sizes[1:] if size != -1)
    rest = math.prod(before) // known if known else 0
    return _shaped(b, source, tuple(rest if size == -1 else size for size in sizes[1:]))


def transpose(b: Building, node: OnnxNode) -> int:
    """Transpose, where it moves axes of size 1 only."""
    source = b.activation(node)
    before = (1, *b.shapes[source])
    order = node.attributes.get("perm", list(range(len(before)))[::-1])
    if sorted(order) != list(range(len(before))) or order[0] != 0:
        raise Refused(f"perm={order} moves the batch axis")
    moved = [axis for axis in order if before[axis] > 1]
    if moved != sorted(moved):
        raise Refused(f"perm={order} reorders values, and a Transpose is read only where it moves axes of size 1")
    return _shaped(b, source, tuple(before[axis] for axis in order[1:]))


def _axes(b: Building, node: OnnxNode, rank: int, *, added: bool = False) -> list[int]:
    """The axes that a node names, 0 being the batch; of the values with these axes if they are ``added``."""
    given = node.attributes.get("axes")
    axes = whole_numbers(b.constant(node, 1)) if given is None else given
    rank += len(axes) if added else 0
    found = sorted({axis % rank for axis in axes if -rank <= axis < rank})
    if len(found) < len(axes):
        raise Refused(f"axes={axes} are not there, or named twice")
    return found


def squeeze(b: Building, node: OnnxNode) -> int:
    """Squeeze of axes of size 1."""
    source = b.activation(node)
    before = (1, *b.shapes[source])
    axes = _axes(b, node, len(before))
    if 0 in axes or any(before[axis] != 1 for axis in axes):
        raise Refused(f"axes={axes} of {before} are not axes of size 1 behind the batch")
    return _shaped(b, source, tuple(size for axis, size in enumerate(before) if axis and axis not in axes))


def unsqueeze(b: Building, node: OnnxNode) -> int:
    """Unsqueeze behind the batch."""
    source = b.activation(node)
    sizes = [1, *b.shapes[source]]
    for axis in _axes(b, node, len(sizes), added=True):
        if axis == 0:
            raise Refused("it adds an axis in front of the batch")
        sizes.insert(axis, 1)
    return _shaped(b, source, tuple(sizes[1:]))
