"""What ONNX's layers become: products with matrices, convolutions, frozen normalisation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.formats.onnx_building import Building, Refused, Value, float_tensor
from gls_es.formats.onnx_graph import OnnxNode
from gls_es.formats.onnx_module import with_weights
from gls_es.formats.onnx_window import Window


def matmul(b: Building, node: OnnxNode) -> Value:
    """MatMul of an activation and a constant, whichever comes first."""
    first = node.inputs[0] in b.constants
    source, constant = b.activation(node, int(first)), b.constant(node, int(not first))
    inner = source.full[-2 if first and len(source.full) > 1 else -1] if source.full else 0
    if constant.ndim not in (1, 2) or constant.shape[-1 if first else 0] != inner:
        raise Refused(f"its constant of shape {constant.shape} does not fit values of shape {source.full}")
    if b.open_batch and first and len(source.full) <= 2:
        raise Refused("it mixes the images of a batch")
    matrix = float_tensor(constant.T if first else constant).reshape(inner, -1)
    turned = first and len(source.full) > 1
    found = _rows(b, _turned(b, source) if turned else source, matrix.T)
    if constant.ndim == 1:
        return b.reshaped(found, found.full[:-1])
    return _turned(b, found) if turned else found


def _rows(b: Building, source: Value, matrix: Tensor, bias: Tensor | None = None) -> Value:
    """A matrix (out, in) times the values along the last axis, plus a bias."""
    full = (*source.full[:-1], len(matrix))
    if source.size == matrix.shape[1]:
        return b.linear(source, matrix, bias, full)
    weights: dict[str, Tensor | None] = {"weight": matrix.contiguous(), "bias": bias}
    layer = with_weights(nn.Linear, matrix.shape[1], len(matrix), bias=bias is not None, weights=weights)
    return b.add(layer, (source,), full)


def _turned(b: Building, source: Value) -> Value:
    """The value with its last two axes exchanged."""
    return b.moved_one(source, lambda x: x.swapaxes(-1, -2))


def gemm(b: Building, node: OnnxNode) -> Value:
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
    source = b.activation(node)
    if len(source.full) != 2 or source.full[1] != matrix.shape[1]:
        raise Refused(f"it multiplies values of shape {source.full} by a matrix for {matrix.shape[1]}; flatten them")
    shift = None
    if bias is not None:
        shift = _row(_scaled(float_tensor(bias), attributes.get("beta", 1.0)), len(matrix))
    if alpha == 1:
        return _rows(b, source, matrix, shift)
    # the factor comes after the sum, which may overflow before it and underflows before it
    found = b.with_constant("Mul", _rows(b, source, matrix), np.full((1, 1), alpha, dtype=np.float32))
    return found if shift is None else b.with_constant("Add", found, shift[None].numpy())


def _scaled(value: Tensor, factor: float) -> Tensor:
    """``factor * value`` if float32 holds it exactly: the network must be the one in the file."""
    if value.dtype == torch.float64:
        scaled = value * factor
        if abs(math.frexp(factor)[0]) != 0.5 or not bool((scaled / factor == value).all()):
            raise Refused(f"alpha or beta = {factor} would round its weights; multiply them into the weights first")
        return scaled
    exact = value.double() * factor
    if not bool((exact.float().double() == exact).all()):
        raise Refused(f"alpha or beta = {factor} would round its weights; multiply them into the weights first")
    return exact.float()


def _row(value: Tensor, length: int) -> Tensor:
    """A bias as (length,)."""
    if value.numel() not in (1, length) or value.dim() > 2 or (value.dim() == 2 and value.shape[0] != 1):
        raise Refused(f"its bias has shape {tuple(value.shape)}")
    return value.reshape(-1).expand(length).clone()


def conv(b: Building, node: OnnxNode) -> Value:
    """Conv over one axis or two; uneven padding is even padding and a kernel with a border of zeros."""
    source, weight, bias = b.activation(node), b.constant(node, 1), b.optional(node, 2)
    axes = weight.ndim - 2
    if axes not in (1, 2) or len(source.full) != weight.ndim or source.full[0] != 1:
        raise Refused("only convolutions of one image over one axis or two axes are bounded")
    window = Window.of(node, tuple(weight.shape[2:]), tuple(source.full[2:]))
    if axes == 1:
        source, weight = b.reshaped(source, (*source.full[:2], 1, source.full[2])), weight[:, :, None]
        window = window.over_two()
    weight, padding = window.evened(weight)
    groups, channels = int(node.attributes.get("group", 1)), weight.shape[0]
    if groups < 1 or channels % groups or weight.shape[1] * groups != source.full[1]:
        raise Refused(f"a kernel of shape {weight.shape} in {groups} groups does not fit {source.full[1]} channels")
    if bias is not None and bias.shape != (channels,):
        raise Refused(f"its bias has shape {bias.shape}")
    layer = with_weights(
        nn.Conv2d,
        source.full[1],
        channels,
        tuple(weight.shape[2:]),
        window.stride,
        padding,
        window.dilation,
        groups,
        bias=bias is not None,
        weights={"weight": float_tensor(weight), "bias": None if bias is None else float_tensor(bias)},
    )
    full = (1, channels, *window.slid(source.full[2:]))
    found = b.add(layer, (source,), full)
    return found if axes == 2 else b.reshaped(found, (1, channels, full[3]))


def batch_norm(b: Building, node: OnnxNode) -> Value:
    """BatchNormalization with frozen statistics."""
    training = node.attributes.get("training_mode", 0) or any(node.outputs[1:])  # until 13 the outputs say it
    if training or not node.attributes.get("spatial", 1):
        raise Refused("only BatchNormalization with frozen statistics per channel is bounded")
    source = b.activation(node)
    kinds: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    if len(source.full) not in kinds or source.full[0] != 1:
        raise Refused(f"it normalises values of shape {source.full}")
    names = ("weight", "bias", "running_mean", "running_var")
    weights = {name: float_tensor(b.constant(node, position)) for position, name in enumerate(names, start=1)}
    channels = source.full[1]
    if any(value.shape != (channels,) for value in weights.values()):
        raise Refused(f"its constants are not one number for each of {channels} channels")
    eps = node.number("epsilon", 1e-5)
    if not eps >= 0 or not bool((weights["running_var"] + eps > 0).all()):
        raise Refused("its variances are not positive")
    eps = max(eps, math.ulp(0.0))  # some versions of PyTorch refuse 0; this changes no variance that is bounded
    layer = with_weights(kinds[len(source.full)], channels, eps=eps, weights=dict(weights))
    return b.add(layer, (source,), source.full)
