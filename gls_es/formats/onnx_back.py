"""What ONNX's transposed convolutions become."""

from __future__ import annotations

import numpy as np
from torch import nn

from gls_es.formats.onnx_building import Building, Refused, Value, float_tensor
from gls_es.formats.onnx_graph import MOST_VALUES, OnnxNode, Shape
from gls_es.formats.onnx_module import with_weights
from gls_es.formats.onnx_window import Window


def conv_transpose(b: Building, node: OnnxNode) -> Value:
    """ConvTranspose over one axis or two: all of the result, of which the padding cuts off the borders."""
    source, weight, bias = b.activation(node), b.constant(node, 1), b.optional(node, 2)
    axes = weight.ndim - 2
    if axes not in (1, 2) or len(source.full) != weight.ndim or source.full[0] != 1:
        raise Refused("only convolutions of one image over one axis or two axes are bounded")
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or "output_shape" in node.attributes:
        raise Refused("auto_pad and output_shape have no bounds here; give pads")
    window = Window.of(node, tuple(weight.shape[2:]), tuple(source.full[2:]))
    groups = int(node.attributes.get("group", 1))
    channels = weight.shape[1] * groups
    if groups < 1 or weight.shape[0] != source.full[1] or source.full[1] % groups:
        raise Refused(f"a kernel of shape {weight.shape} in {groups} groups does not fit {source.full[1]} channels")
    if bias is not None and bias.shape != (channels,):
        raise Refused(f"its bias has shape {bias.shape}")
    extra = tuple(node.attributes.get("output_padding", [0] * axes))
    steps = zip(extra, window.stride, window.dilation, strict=False)
    if len(extra) != axes or any(not 0 <= more < max(s, d) for more, s, d in steps):
        raise Refused(f"output_padding={list(extra)} does not fit its strides")
    whole = _whole(window, source.full[2:], extra)
    if channels * int(np.prod(whole)) > MOST_VALUES:
        raise Refused("its window has impossible sizes")
    kinds: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
    layer = with_weights(
        kinds[axes], source.full[1], channels, window.kernel, window.stride, 0, extra, groups,
        bias=bias is not None, dilation=window.dilation,
        weights={"weight": float_tensor(weight), "bias": None if bias is None else float_tensor(bias)},
    )  # fmt: skip
    found = b.add(layer, (source,), (1, channels, *whole))
    kept = [slice(p, n - q) for p, n, q in zip(window.before, whole, window.behind, strict=True)]
    return b.moved_one(found, lambda x: x[(slice(None), slice(None), *kept)])


def _whole(window: Window, size: Shape, extra: Shape) -> Shape:
    """The sizes before the padding cuts anything off."""
    parts = zip(size, window.stride, window.dilation, window.kernel, extra, strict=True)
    return tuple((n - 1) * s + d * (k - 1) + 1 + more for n, s, d, k, more in parts)
