"""What ONNX's pools become."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from torch import nn

from gls_es.formats.onnx_arithmetic import larger
from gls_es.formats.onnx_building import Building, Refused, Value
from gls_es.formats.onnx_graph import Array, OnnxNode, Shape
from gls_es.formats.onnx_window import Window, pair


def average_pool(b: Building, node: OnnxNode) -> Value:
    """AveragePool over two axes."""
    source = _image(b, node)
    window = Window.of(node, (), source.full[2:])
    if node.attributes.get("ceil_mode", 0) or window.dilation != (1, 1):
        raise Refused("only pooling over two axes without ceil_mode and dilations is bounded")
    if window.before != window.behind:
        raise Refused(f"pads={[*window.before, *window.behind]} differ between the sides; pad evenly")
    if window.before != (0, 0) and not node.attributes.get("count_include_pad", 0):
        raise Refused("padding without count_include_pad has no bounds here")
    if any(2 * p > k for p, k in zip(window.before, window.kernel, strict=True)):
        raise Refused(f"it pads by more than half its window, {window.before} of {window.kernel}")
    full = (1, source.full[1], *window.slid(source.full[2:]))
    return b.add(nn.AvgPool2d(pair(window.kernel), pair(window.stride), pair(window.before)), (source,), full)


def global_average_pool(b: Building, node: OnnxNode) -> Value:
    """GlobalAveragePool over two axes."""
    source = _image(b, node)
    return b.add(nn.AvgPool2d(pair(source.full[2:])), (source,), (1, source.full[1], 1, 1))


def max_pool(b: Building, node: OnnxNode) -> Value:
    """MaxPool over two axes: the maximum of the values that each place of the window reads, two by two."""
    source = _image(b, node)
    window = Window.of(node, (), source.full[2:])
    if any(node.outputs[1:]):
        raise Refused("only pooling without indices is bounded")
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
    if len(source.full) != 4 or source.full[0] != 1:
        raise Refused("only pooling of one image over two axes is bounded")
    return source
