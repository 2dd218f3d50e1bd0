"""What ONNX's affine layers become: products with matrices, convolutions, frozen normalisation, average pools."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gls_es.formats.onnx_building import Building, Refused, checked_shape, float_tensor
from gls_es.formats.onnx_graph import MOST_VALUES, OnnxNode, Shape
from gls_es.formats.onnx_module import WithConstant, with_weights


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


def matmul(b: Building, node: OnnxNode) -> int:
    """MatMul of an activation and a constant matrix."""
    weight = b.constant(node, 1)
    if weight.ndim != 2:
        raise Refused(f"its constant has shape {weight.shape}; only activation times matrix is bounded")
    return _linear(b, b.activation(node), float_tensor(weight).T, None)


def gemm(b: Building, node: OnnxNode) -> int:
    """Gemm of an activation and a constant matrix, whose factors float32 applies exactly."""
    attributes = node.attributes
    if attributes.get("transA", 0):
        raise Refused("transA has no bounds here")
    weight, bias = b.constant(node, 1), b.optional(node, 2)
    if weight.ndim != 2:
        raise Refused(f"its matrix has shape {weight.shape}")
    matrix, alpha = float_tensor(weight), attributes.get("alpha", 1.0)
    _scaled(matrix, alpha)
    if not attributes.get("transB", 0):
        matrix = matrix.T
    shift = None
    if bias is not None:
        shift = _row(_scaled(float_tensor(bias), attributes.get("beta", 1.0)), len(matrix))
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


def conv(b: Building, node: OnnxNode) -> int:
    """Conv over two axes."""
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
        weights={"weight": float_tensor(weight), "bias": None if bias is None else float_tensor(bias)},
    )
    return b.add(layer, (source,), checked_shape(out))


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


def batch_norm(b: Building, node: OnnxNode) -> int:
    """BatchNormalization with frozen statistics."""
    training = node.attributes.get("training_mode", 0) or any(node.outputs[1:])  # until 13 the outputs say it
    if training or not node.attributes.get("spatial", 1):
        raise Refused("only BatchNormalization with frozen statistics per channel is bounded")
    source = b.activation(node)
    shape = b.shapes[source]
    kinds: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}
    if len(shape) not in kinds:
        raise Refused(f"it normalises values of shape {shape}")
    names = ("weight", "bias", "running_mean", "running_var")
    weights = {name: float_tensor(b.constant(node, position)) for position, name in enumerate(names, start=1)}
    if any(value.shape != (shape[0],) for value in weights.values()):
        raise Refused(f"its constants are not one number for each of {shape[0]} channels")
    eps = float(node.attributes.get("epsilon", 1e-5))
    if not eps >= 0 or not bool((weights["running_var"] + eps > 0).all()):
        raise Refused("its variances are not positive")
    layer = with_weights(kinds[len(shape)], shape[0], eps=eps, weights=dict(weights))
    return b.add(layer, (source,), shape)


def average_pool(b: Building, node: OnnxNode) -> int:
    """AveragePool over two axes."""
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
    return b.add(nn.AvgPool2d(kernel, stride, padding), (source,), checked_shape(out))


def global_average_pool(b: Building, node: OnnxNode) -> int:
    """GlobalAveragePool over two axes."""
    source = b.activation(node)
    shape = b.shapes[source]
    if len(shape) != 3:
        raise Refused("only pooling over two axes is bounded")
    return b.add(nn.AvgPool2d(shape[1:]), (source,), (shape[0], 1, 1))
