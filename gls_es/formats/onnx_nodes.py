"""What each ONNX operator becomes: one small function each, and two tables.

A translation takes the running :class:`~gls_es.formats.onnx_reading.Building` and the node, adds operations, and
returns the index of the value that the node makes. It raises :class:`Refused` with the reason where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.formats.onnx_graph import MOST_VALUES, Array, OnnxNode, Shape
from gls_es.formats.onnx_module import Difference, Shaped, Sum, WithConstant, with_weights

if TYPE_CHECKING:
    from gls_es.formats.onnx_reading import Building


class Refused(Exception):
    """Why one node has no translation."""


def _tensor(array: Array) -> Tensor:
    """A float32 tensor with memory of its own."""
    if array.dtype != np.float32:
        raise Refused(f"its constant holds {array.dtype} numbers, not float32")
    return torch.from_numpy(np.array(array))


def _whole(array: Array) -> list[int]:
    if array.dtype not in (np.int64, np.int32):
        raise Refused("its shape or axes are not whole numbers")
    return [int(n) for n in array.reshape(-1)]


# -- affine layers -----------------------------------------------------------------------------------------------------


def _linear(b: Building, source: int, weight: Tensor, bias: Tensor | None) -> int:
    """``weight`` is (out, in), as torch keeps it."""
    if b.shapes[source] != (weight.shape[1],):
        raise Refused(f"it multiplies {b.shapes[source]} values by a matrix for {weight.shape[1]}; flatten them first")
    layer = with_weights(
        nn.Linear,
        weight.shape[1],
        weight.shape[0],
        bias=bias is not None,
        weights={"weight": weight.contiguous(), "bias": bias},
    )
    return b.add(layer, (source,), (weight.shape[0],))


def _matmul(b: Building, node: OnnxNode) -> int:
    weight = b.constant(node, 1)
    if weight.ndim != 2:
        raise Refused(f"its constant has shape {weight.shape}; only activation times matrix is bounded")
    return _linear(b, b.activation(node), _tensor(weight).T, None)


def _gemm(b: Building, node: OnnxNode) -> int:
    attributes = node.attributes
    if attributes.get("transA", 0):
        raise Refused("transA has no bounds here")
    weight, bias = b.constant(node, 1), b.optional(node, 2)
    if weight.ndim != 2:
        raise Refused(f"its matrix has shape {weight.shape}")
    matrix, alpha = _tensor(weight), attributes.get("alpha", 1.0)
    _scaled(matrix, alpha)
    if not attributes.get("transB", 0):
        matrix = matrix.T
    shift = None
    if bias is not None:
        shift = _row(_scaled(_tensor(bias), attributes.get("beta", 1.0)), len(matrix))
    if alpha == 1:
        return _linear(b, b.activation(node), matrix, shift)
    # the factor comes after the sum, which may overflow before it and underflows before it
    found = _linear(b, b.activation(node), matrix, None)
    found = b.add(WithConstant("Mul", torch.tensor(alpha), first=False), (found,), (len(matrix),))
    return found if shift is None else b.add(WithConstant("Add", shift, first=False), (found,), (len(matrix),))


def _scaled(value: Tensor, factor: float) -> Tensor:
    """``factor * value`` if float32 holds it exactly: the network must be the one in the file."""
    exact = value.double() * factor
    if not bool((exact.float().double() == exact).all()):
        raise Refused(f"alpha or beta = {factor} would round its weights; multiply them into the weights first")
    return exact.float()


def _row(value: Tensor, length: int) -> Tensor:
    """A bias as (length,)."""
    if value.numel() not in (1, length) or value.dim() > 2 or (value.dim() == 2 and value.shape[0] != 1):
        raise Refused(f"its bias has shape {tuple(value.shape)}")
    return value.reshape(-1).expand(length).clone()


def _conv(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    weight, bias = b.constant(node, 1), b.optional(node, 2)
    shape = b.shapes[source]
    if weight.ndim != 4 or len(shape) != 3:
        raise Refused("only convolutions over two axes are bounded")
    kernel, stride, padding, dilation = _window(node, tuple(weight.shape[2:]))
    groups = int(node.attributes.get("group", 1))
    channels = weight.shape[0]
    if groups < 1 or channels % groups or weight.shape[1] * groups != shape[0]:
        raise Refused(f"a kernel of shape {weight.shape} in {groups} groups does not fit {shape[0]} channels")
    if bias is not None and bias.shape != (channels,):
        raise Refused(f"its bias has shape {bias.shape}")
    out = (channels, *_slid(shape[1:], kernel, stride, padding, dilation))
    layer = with_weights(
        nn.Conv2d,
        shape[0],
        channels,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=bias is not None,
        weights={"weight": _tensor(weight), "bias": None if bias is None else _tensor(bias)},
    )
    return b.add(layer, (source,), _checked(out))


_Pair = tuple[int, int]


def _window(node: OnnxNode, kernel: tuple[int, ...]) -> tuple[_Pair, _Pair, _Pair, _Pair]:
    """Kernel, stride, padding and dilation, (height, width) each."""
    attributes = node.attributes
    auto = attributes.get("auto_pad", b"NOTSET")
    if auto not in (b"NOTSET", b"VALID"):
        raise Refused(f"auto_pad={auto!r} has no bounds here; give pads")
    pads = attributes.get("pads", [0, 0, 0, 0]) if auto == b"NOTSET" else [0, 0, 0, 0]
    if len(pads) != 4 or pads[:2] != pads[2:]:
        raise Refused(f"pads={pads} differ between the sides; pad evenly")
    found = [list(attributes.get("kernel_shape", kernel)), attributes.get("strides", [1, 1]), pads[:2]]
    found.append(attributes.get("dilations", [1, 1]))
    if any(len(pair) != 2 for pair in found) or (kernel and tuple(found[0]) != kernel):
        raise Refused("its window is not of two axes")
    if min(*found[0], *found[1], *found[3]) < 1 or min(pads) < 0 or max(map(max, found)) > MOST_VALUES:
        raise Refused("its window has impossible sizes")
    pairs = [(int(one), int(two)) for one, two in found]
    return pairs[0], pairs[1], pairs[2], pairs[3]


def _slid(size: Shape, kernel: _Pair, stride: _Pair, padding: _Pair, dilation: _Pair) -> Shape:
    """Sizes after a sliding window: floor((n + 2 p - d (k - 1) - 1) / s) + 1."""
    sides = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)


def _checked(shape: Shape) -> Shape:
    if min(shape) < 1 or math.prod(shape) > MOST_VALUES:
        raise Refused(f"it makes values of shape {shape}")
    return shape


def _batch_norm(b: Building, node: OnnxNode) -> int:
    if node.attributes.get("training_mode", 0) or not node.attributes.get("spatial", 1):
        raise Refused("only BatchNormalization with frozen statistics per channel is bounded")
    source = b.activation(node)
    shape = b.shapes[source]
    kinds: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}
    if len(shape) not in kinds:
        raise Refused(f"it normalises values of shape {shape}")
    names = ("weight", "bias", "running_mean", "running_var")
    weights = {name: _tensor(b.constant(node, position)) for position, name in enumerate(names, start=1)}
    if any(value.shape != (shape[0],) for value in weights.values()):
        raise Refused(f"its constants are not one number for each of {shape[0]} channels")
    eps = float(node.attributes.get("epsilon", 1e-5))
    if not eps >= 0 or not bool((weights["running_var"] + eps > 0).all()):
        raise Refused("its variances are not positive")
    layer = with_weights(kinds[len(shape)], shape[0], eps=eps, weights=dict(weights))
    return b.add(layer, (source,), shape)


# -- pooling and shapes ------------------------------------------------------------------------------------------------


def _average_pool(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    shape = b.shapes[source]
    kernel, stride, padding, dilation = _window(node, ())
    if len(shape) != 3 or node.attributes.get("ceil_mode", 0) or dilation != (1, 1):
        raise Refused("only pooling over two axes without ceil_mode and dilations is bounded")
    if padding != (0, 0) and not node.attributes.get("count_include_pad", 0):
        raise Refused("padding without count_include_pad has no bounds here")
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise Refused(f"it pads by more than half its window, {padding} of {kernel}")
    out = (shape[0], *_slid(shape[1:], kernel, stride, padding, (1, 1)))
    return b.add(nn.AvgPool2d(kernel, stride, padding), (source,), _checked(out))


def _global_average_pool(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    shape = b.shapes[source]
    if len(shape) != 3:
        raise Refused("only pooling over two axes is bounded")
    return b.add(nn.AvgPool2d(shape[1:]), (source,), (shape[0], 1, 1))


def _shaped(b: Building, source: int, shape: Shape) -> int:
    before = b.shapes[source]
    if math.prod(shape) != math.prod(before) or not shape:
        raise Refused(f"it turns values of shape {before} into {shape} per image")
    if shape == before:
        return source
    return b.add(nn.Flatten() if len(shape) == 1 else Shaped(shape), (source,), shape)


def _flatten(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    axis, rank = node.attributes.get("axis", 1), len(b.shapes[source]) + 1
    if axis not in (1, 1 - rank):
        raise Refused(f"axis={axis} mixes the images of a batch")
    return _shaped(b, source, (math.prod(b.shapes[source]),))


def _reshape(b: Building, node: OnnxNode) -> int:
    """The target's first size must stand for the batch: 1 or -1, or 0, which copies it."""
    source = b.activation(node)
    before, target = (1, *b.shapes[source]), _whole(b.constant(node, 1))
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


def _transpose(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    before = (1, *b.shapes[source])
    order = node.attributes.get("perm", list(range(len(before)))[::-1])
    if sorted(order) != list(range(len(before))) or order[0] != 0:
        raise Refused(f"perm={order} moves the batch axis")
    moved = [axis for axis in order if before[axis] > 1]
    if moved != sorted(moved):
        raise Refused(f"perm={order} reorders values, and a Transpose is read only where it moves axes of size 1")
    return _shaped(b, source, tuple(before[axis] for axis in order[1:]))


def _axes(b: Building, node: OnnxNode, rank: int) -> list[int]:
    given = node.attributes.get("axes")
    axes = _whole(b.constant(node, 1)) if given is None else given
    if not all(-rank <= axis < rank for axis in axes):
        raise Refused(f"axes={axes} are not there")
    return [axis % rank for axis in axes]


def _squeeze(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    before = (1, *b.shapes[source])
    axes = _axes(b, node, len(before))
    if 0 in axes or any(before[axis] != 1 for axis in axes):
        raise Refused(f"axes={axes} of {before} are not axes of size 1 behind the batch")
    return _shaped(b, source, tuple(size for axis, size in enumerate(before) if axis and axis not in axes))


def _unsqueeze(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    sizes = [1, *b.shapes[source]]
    for axis in sorted(_axes(b, node, len(sizes) + 1)):
        if axis == 0:
            raise Refused("it adds an axis in front of the batch")
        sizes.insert(axis, 1)
    return _shaped(b, source, tuple(sizes[1:]))


# -- elementwise -------------------------------------------------------------------------------------------------------


def _relu(b: Building, node: OnnxNode) -> int:
    source = b.activation(node)
    return b.add(nn.ReLU(), (source,), b.shapes[source])


def _same(b: Building, node: OnnxNode) -> int:
    return b.activation(node)


def _dropout(b: Building, node: OnnxNode) -> int:
    training = b.optional(node, 2)
    if training is not None and bool(training.any()):
        raise Refused("dropout in training mode has no fixed function")
    return b.activation(node)


def _arithmetic(b: Building, node: OnnxNode) -> int:
    if len(node.inputs) != 2:
        raise Refused("it takes two inputs")
    held = [name in b.constants for name in node.inputs]
    if not any(held):
        return _of_two(b, node)
    source = b.activation(node, held.index(False))
    value, first = _tensor(b.constant(node, held.index(True))), held[0]
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


NODES: dict[str, Callable[[Any, OnnxNode], int]] = {
    "Add": _arithmetic,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Div": _arithmetic,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _same,
    "MatMul": _matmul,
    "Mul": _arithmetic,
    "Relu": _relu,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Sub": _arithmetic,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operators by name; what they do to activations."""

# -- constants ---------------------------------------------------------------------------------------------------------


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


CONSTANTS: dict[str, Callable[[OnnxNode, list[Array]], Array]] = {
    "Constant": _constant,
    "Identity": lambda _node, inputs: inputs[0],
    "Transpose": _moved,
}
"""The same for nodes that read constants alone."""
