"""What ONNX's operators that move, repeat, leave out or sum values become.

Where the numbers keep their order this is another shape, and else a selection of values by an index.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from gls_es.formats.onnx_building import Building, Refused, Value, joined, whole_numbers
from gls_es.formats.onnx_graph import Array, OnnxNode
from gls_es.formats.onnx_module import Summed


def flatten(b: Building, node: OnnxNode) -> Value:
    """Flatten into two axes."""
    source = b.activation(node)
    axis, rank = node.attributes.get("axis", 1), len(source.full)
    if not -rank <= axis <= rank:
        raise Refused(f"axis={axis} is not there")
    if b.open_batch and axis not in (1, 1 - rank):
        raise Refused(f"axis={axis} mixes the images of a batch")
    axis += rank if axis < 0 else 0
    return b.reshaped(source, (math.prod(source.full[:axis]), math.prod(source.full[axis:])))


def reshape(b: Building, node: OnnxNode) -> Value:
    """Reshape; a size of 0 copies one, and -1 is what is left."""
    source, target = b.activation(node), whole_numbers(b.constant(node, 1))
    if node.attributes.get("allowzero", 0) and 0 in target:
        raise Refused("allowzero has no bounds here")
    if any(size == 0 and axis >= len(source.full) for axis, size in enumerate(target)):
        raise Refused(f"it copies an axis that is not there: {target}")
    if b.open_batch and target[:1] not in ([0], [1], [-1]):
        raise Refused(f"it reshapes to {target}, whose first axis is not the batch")
    sizes = [source.full[axis] if size == 0 else size for axis, size in enumerate(target)]
    if min(sizes, default=0) < -1 or sizes.count(-1) > 1:
        raise Refused(f"it reshapes to {target}")
    known = math.prod(size for size in sizes if size != -1)
    rest = source.size // known if known else 0
    return b.reshaped(source, tuple(rest if size == -1 else size for size in sizes))


def transpose(b: Building, node: OnnxNode) -> Value:
    """Transpose."""
    source = b.activation(node)
    rank = len(source.full)
    order = node.attributes.get("perm", list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise Refused(f"perm={order} does not fit values of shape {source.full}")
    if b.open_batch and order[0] != 0:
        raise Refused(f"perm={order} moves the batch axis")
    return b.moved_one(source, lambda x: x.transpose(order))


def squeeze(b: Building, node: OnnxNode) -> Value:
    """Squeeze of axes of size 1; of all of them where none are named."""
    source = b.activation(node)
    if _given(b, node) is None:
        if b.open_batch:
            raise Refused("without axes it removes that of a batch of one, too")
        return b.reshaped(source, tuple(size for size in source.full if size != 1))
    axes = _axes(b, node, len(source.full))
    if any(source.full[axis] != 1 for axis in axes):
        raise Refused(f"axes={axes} of {source.full} are not axes of size 1")
    return b.reshaped(source, tuple(size for axis, size in enumerate(source.full) if axis not in axes))


def unsqueeze(b: Building, node: OnnxNode) -> Value:
    """Unsqueeze: the axes are those of the result."""
    source = b.activation(node)
    sizes = list(source.full)
    for axis in _axes(b, node, len(sizes), added=True):
        if axis == 0 and b.open_batch:
            raise Refused("it adds an axis in front of the batch")
        sizes.insert(axis, 1)
    return b.reshaped(source, tuple(sizes))


def expand(b: Building, node: OnnxNode) -> Value:
    """Expand: axes of size 1 are repeated."""
    source, target = b.activation(node), whole_numbers(b.constant(node, 1))
    try:
        full = np.broadcast_shapes(source.full, tuple(target))
    except ValueError:
        raise Refused(f"shape {source.full} does not expand to {target}") from None
    ranked = (1,) * (len(full) - len(source.full)) + source.full
    return b.moved_one(source, lambda x: np.broadcast_to(x.reshape(ranked), full))


def concat(b: Building, node: OnnxNode) -> Value:
    """Concat of activations and constants."""
    parts: list[Value | Array] = [
        b.constants[name] if name in b.constants else b.activation(node, at) for at, name in enumerate(node.inputs)
    ]
    ranks = [len(part.full) if isinstance(part, Value) else part.ndim for part in parts]
    axis = b.axis(int(node.attributes["axis"]), ranks[0])
    try:
        return joined(b, parts, axis)
    except ValueError:
        raise Refused("it joins values of sizes that do not fit") from None


def split(b: Building, node: OnnxNode) -> tuple[Value, ...]:
    """Split into parts of given sizes, or of equal ones."""
    source = b.activation(node)
    axis = b.axis(int(node.attributes.get("axis", 0)), len(source.full))
    length, count = source.full[axis], len(node.outputs)
    given = b.optional(node, 1)
    sizes = node.attributes.get("split") if given is None else whole_numbers(given)
    if sizes is None:
        size = -(-length // count)
        sizes = [size] * (count - 1) + [length - size * (count - 1)]
    if sum(sizes) != length or len(sizes) != count or min(sizes) < 1:
        raise Refused(f"{length} values are not split into parts of {sizes}")
    ends = np.cumsum(sizes).tolist()
    return tuple(
        b.moved_one(source, partial(_cut, axis=axis, start=end - size, stop=end))
        for size, end in zip(sizes, ends, strict=True)
    )


def _cut(x: Array, axis: int, start: int, stop: int) -> Array:
    return x[(slice(None),) * axis + (slice(start, stop),)]


def sliced(b: Building, node: OnnxNode) -> Value:
    """Slice by constants."""
    source = b.activation(node)
    parts = slices(node, [None, *(b.optional(node, position) for position in range(1, 5))], source.full)
    touched = [axis for axis, part in enumerate(parts) if part != slice(None)]
    for axis in touched:
        b.axis(axis, len(source.full))
    return b.moved_one(source, lambda x: x[tuple(parts)])


def slices(node: OnnxNode, given: list[Array | None], full: tuple[int, ...]) -> list[slice]:
    """What a Slice leaves of each axis.

    Args:
        node: the node, for its attributes until version 9.
        given: its inputs 1 to 4: starts, ends, axes, steps.
        full: the shape of what it slices.
    """
    names = ("starts", "ends", "axes", "steps")
    found = {
        name: whole_numbers(array) if array is not None else node.attributes.get(name)
        for name, array in zip(names, given[1:], strict=True)
    }
    starts, ends = found["starts"], found["ends"]
    if starts is None or ends is None or len(starts) != len(ends):
        raise Refused("its starts and ends are not constants of one length")
    axes, steps = found["axes"] or list(range(len(starts))), found["steps"] or [1] * len(starts)
    if len(axes) != len(starts) or len(steps) != len(starts) or 0 in steps:
        raise Refused("its axes and steps do not fit its starts")
    parts = [slice(None)] * len(full)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -len(full) <= axis < len(full):
            raise Refused(f"axis={axis} is not there")
        length = full[axis]
        begin, stop = start + length if start < 0 else start, end + length if end < 0 else end
        if step > 0:
            parts[axis] = slice(min(max(begin, 0), length), min(max(stop, 0), length), step)
        else:
            last = min(max(stop, -1), length - 1)
            parts[axis] = slice(min(max(begin, 0), length - 1), None if last < 0 else last, step)
    return parts


def gather(b: Building, node: OnnxNode) -> Value:
    """Gather by constant indices."""
    source, indices = b.activation(node), b.constant(node, 1)
    axis = b.axis(int(node.attributes.get("axis", 0)), len(source.full))
    whole_numbers(indices)
    if indices.size and not (-source.full[axis] <= indices.min() and indices.max() < source.full[axis]):
        raise Refused("its indices are not there")
    return b.moved_one(source, lambda x: x.take(indices % source.full[axis], axis=axis))


def reduced(b: Building, node: OnnxNode) -> Value:
    """ReduceSum and ReduceMean: the mean divides the sum once."""
    source = b.activation(node)
    rank, keep = len(source.full), bool(node.attributes.get("keepdims", 1))
    given = _given(b, node)
    if not given and node.attributes.get("noop_with_empty_axes", 0):
        return source
    axes = sorted({b.axis(axis, rank) for axis in given or range(rank)})
    full = tuple(1 if at in axes else n for at, n in enumerate(source.full) if keep or at not in axes)
    over = [axis for axis in axes if source.full[axis] > 1]
    if over:
        front = len(source.full) - len(source.shape)  # 1 if the module's batch axis is the first of ONNX's
        found = b.add(Summed(tuple(axis + 1 - front for axis in over), Value(0, full).shape), (source,), full)
    else:
        found = b.reshaped(source, full)
    count = math.prod(source.full[axis] for axis in axes)
    if node.op == "ReduceSum" or count == 1:
        return found
    return b.with_constant("Div", found, np.full([1] * len(found.full), count, dtype=b.graph.execution))


def _given(b: Building, node: OnnxNode) -> list[int] | None:
    """The axes that a node names, as an attribute or as an input."""
    given = node.attributes.get("axes")
    if given is None and len(node.inputs) > 1 and node.inputs[1]:
        given = whole_numbers(b.constant(node, 1))
    return given


def _axes(b: Building, node: OnnxNode, rank: int, *, added: bool = False) -> list[int]:
    """The axes that a node names, from the front; of the values with these axes if they are ``added``."""
    axes = _given(b, node)
    if axes is None:
        raise Refused("its axes are not given")
    rank += len(axes) if added else 0
    found = sorted({axis % rank for axis in axes if -rank <= axis < rank})
    if len(found) < len(axes):
        raise Refused(f"axes={axes} are not there, or named twice")
    return found
