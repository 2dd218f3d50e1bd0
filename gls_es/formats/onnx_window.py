"""The sliding window of a convolution or a pool, as a node's attributes describe it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gls_es.formats.onnx_building import Refused
from gls_es.formats.onnx_graph import MOST_VALUES, Array, OnnxNode, Shape


@dataclass(frozen=True)
class Window:
    """A sliding window: kernel, strides, dilations, and padding before and behind each axis."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape
    behind: Shape

    @classmethod
    def of(cls, node: OnnxNode, kernel: Shape, size: Shape) -> Window:
        """The window that a node's attributes describe; ``kernel`` is empty where nothing else says it."""
        attributes, axes = node.attributes, len(size)
        found = [list(attributes.get("kernel_shape", kernel))]
        found += [list(attributes.get(name, [1] * axes)) for name in ("strides", "dilations")]
        auto = attributes.get("auto_pad", b"NOTSET")
        pads = list(attributes.get("pads", [0] * (2 * axes))) if auto == b"NOTSET" else [0] * (2 * axes)
        if any(len(part) != axes for part in found) or len(pads) != 2 * axes or (kernel and tuple(found[0]) != kernel):
            raise Refused(f"its window is not one of {axes} axes")
        if min(map(min, found)) < 1 or min(pads) < 0 or max(map(max, [*found, pads])) > MOST_VALUES:
            raise Refused("its window has impossible sizes")
        window = cls(*map(tuple, (*found, pads[:axes], pads[axes:])))
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            return window._same(size, upper=auto == b"SAME_UPPER")
        if auto not in (b"NOTSET", b"VALID"):
            raise Refused(f"auto_pad={auto!r} has no bounds here; give pads")
        return window

    def _same(self, size: Shape, *, upper: bool) -> Window:
        """Padding so that the output has ceil(size / stride) values; an odd one lies behind, or before."""
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(size, self.stride, spans, strict=True)]
        less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
        before, behind = (less, more) if upper else (more, less)
        return replace(self, before=tuple(before), behind=tuple(behind))

    def over_two(self) -> Window:
        """The window of one axis as one of a row."""
        kernel, stride, dilation = ((1, *part) for part in (self.kernel, self.stride, self.dilation))
        return Window(kernel, stride, dilation, before=(0, *self.before), behind=(0, *self.behind))

    def evened(self, weight: Array) -> tuple[Array, tuple[int, int]]:
        """A kernel with zeros where the padding is less, and the larger padding."""
        borders = []
        for before, behind, dilation in zip(self.before, self.behind, self.dilation, strict=True):
            if (before - behind) % dilation:
                raise Refused(f"pads={[*self.before, *self.behind]} differ between the sides; pad evenly")
            borders.append((max(behind - before, 0) // dilation, max(before - behind, 0) // dilation))
        padding = tuple(map(max, self.before, self.behind))
        grown = weight[..., 0, 0].size * math.prod(n + sum(s) for n, s in zip(self.kernel, borders, strict=True))
        if grown > MOST_VALUES:
            raise Refused("its window has impossible sizes")
        return np.pad(weight, [(0, 0), (0, 0), *borders]), (padding[0], padding[1])

    def slid(self, size: Shape, *, up: bool = False) -> Shape:
        """Sizes after sliding: floor((n + p + q - d (k - 1) - 1) / s) + 1.

        Args:
            size: before.
            up: round up instead, as long as the last window does not begin behind everything.
        """
        parts = zip(size, self.kernel, self.stride, self.dilation, self.before, self.behind, strict=True)
        found = []
        for n, k, s, d, p, q in parts:
            room = n + p + q - d * (k - 1) - 1
            steps = -(-room // s) if up else room // s
            found.append(steps + (0 if up and steps * s >= n + p else 1))
        return tuple(found)


def pair(sizes: Shape) -> tuple[int, int]:
    """The sizes of two axes."""
    first, second = sizes
    return first, second
