"""What ONNX's pools become."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from torch import nn

from gls_es.formats.onnx_arithmetic import larger
from gls_es.formats.onnx_building import Building, Refused, Value
from gls_es.formats.onnx_filling import padded
from gls_es.formats.onnx_graph import Array, OnnxNode, Shape
from gls_es.formats.onnx_window import Window, pair


def average_pool(b: Building, node: OnnxNode) -> Value:
    """AveragePool over one axis or two; padding that counts is a border of zeros."""
    source = _image(b, node)
    window = Window.of(node, (), source.full[2:])
    sizes = window.slid(source.full[2:])
    if node.attributes.get("ceil_mode", 0) and sizes != window.slid(source.full[2:], up=True):
        raise Refused("ceil_mode that adds windows has no bounds here")
    if set(window.dilation) != {1}:
        raise Refused("only pooling without dilations is bounded")
    if any((*window.before, *window.behind)) and not node.attributes.get("count_include_pad", 0):
        raise Refused("padding without count_include_pad has no bounds here")
    even = window.before == window.behind and all(2 * p <= k for p, k in zip(window.before, window.kernel, strict=True))
    around = [(0, 0), (0, 0), *zip(window.before, window.behind, strict=True)]
    wide = source if even else padded(b, source, around)
    full = (1, source.full[1], *sizes)
    if len(sizes) == 1:
        wide, window = b.reshaped(wide, (*wide.full[:2], 1, wide.full[2])), window.over_two()
    padding = pair(window.before) if even else 0
    found = b.add(
        nn.AvgPool2d(pair(window.kernel), pair(window.stride), padding), (wide,), (*full[:2], *(1, *sizes)[-2:])
    )
    return b.reshaped(found, full)


def global_average_pool(b: Building, node: OnnxNode) -> Value:
    """GlobalAveragePool over one axis or two."""
    source = _image(b, node)
    sizes = (1, *source.full[2:])[-2:]
    wide = b.reshaped(source, (*source.full[:2], *sizes))
    found = b.add(nn.AvgPool2d(pair(sizes)), (wide,), (1, source.full[1], 1, 1))
    return b.reshaped(found, (1, source.full[1], *[1] * len(source.full[2:])))


def max_pool(b: Building, node: OnnxNode) -> Value:
    """MaxPool over one axis or two: the maximum of the values that each place of the window reads, two by two."""
    source = _image(b, node)
    window = Window.of(node, (), source.full[2:])
    if len(source.full) == 3:
        line, window = b.reshaped(source, (*source.full[:2], 1, source.full[2])), window.over_two()
        found = _largest(b, node, line, window)
        return b.reshaped(found, (*found.full[:2], found.full[3]))
    return _largest(b, node, source, window)


def _largest(b: Building, node: OnnxNode, source: Value, window: Window) -> Value:
    if any(node.outputs[1:]):
        raise Refused("only pooling without indices is bounded")
    if node.attributes.get("auto_pad", b"").startswith(b"SAME") and set(window.dilation) != {1}:
        raise Refused("onnxruntime pads it as if it had no dilations; give pads instead of auto_pad")
    sizes = window.slid(source.full[2:], up=bool(node.attributes.get("ceil_mode", 0)))
    found = None
    for rows in _places(window, source.full, sizes):
        part = b.moved_one(source, partial(_read, at=rows))
        found = part if found is None else larger(b, found, part)
    assert found is not None
    return found


def _read(x: Array, at: Array) -> Array:
    return x.reshape(-1)[at]


def _places(window: Window, full: Shape, sizes: Shape) -> list[Array]:
    """For each place of the window the index that every output reads there; outside, that of a place inside."""
    if min(sizes) < 1 or math.prod(window.kernel) > 64:
        raise Refused(f"its window of {window.kernel} does not fit, or is too large")
    places, inside = [], []
    for shift in np.ndindex(*window.kernel):
        lines = [
            np.arange(n) * s + at * d - p
            for n, s, at, d, p in zip(sizes, window.stride, shift, window.dilation, window.before, strict=True)
        ]
        there = [(line >= 0) & (line < n) for line, n in zip(lines, full[2:], strict=True)]
        grid = lines[0][:, None] * full[3] + lines[1][None]
        good = there[0][:, None] & there[1][None]
        places.append(grid)
        inside.append(good)
    known, some = np.stack(inside), np.stack(places)
    if not known.any(axis=0).all():
        raise Refused("a window of it lies in the padding alone")
    fallback = np.take_along_axis(some, known.argmax(axis=0)[None], axis=0)[0]
    channels = np.arange(full[1])[:, None, None] * (full[2] * full[3])
    return [(np.where(good, grid, fallback)[None] + channels)[None] for good, grid in zip(known, some, strict=True)]


def _image(b: Building, node: OnnxNode) -> Value:
    source = b.activation(node)
    if len(source.full) not in (3, 4) or source.full[0] != 1:
        raise Refused("only pooling of one image over one axis or two axes is bounded")
    return source
