"""Affine layers read backwards: coefficients on a layer's output become coefficients on its input.

Coefficients are flat, (G, N, S, F): G members, N rows (images, or images x window positions), S specifications, and F
the flattened values they multiply. A leading 1 in place of G or N is shared by all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.bounds.matrix import convolution_matrix, is_small
from gls_es.bounds.patches import Pair, Patch, windows
from gls_es.graph import Shape, Window
from gls_es.layers import ConvLayer, Dense, Elementwise, population_conv


class Transposed:
    """One layer read backwards, with what it needs more than once (rearranged kernels) made once."""

    def __init__(self, layer: Dense | ConvLayer | Elementwise, source: Shape) -> None:
        self.layer = layer
        self.source = source
        self._phases: Tensor | None = None
        self._matrices: dict[tuple[Pair, Pair, Pair], Tensor] = {}

    def maps(self, coefficients: Tensor, shape: Shape) -> Tensor:
        """(G | 1, N, S, F) on whole values of ``shape`` -> (G, N, S, F) on the layer's whole input."""
        layer = self.layer
        members, rows, specs = coefficients.shape[:3]
        if isinstance(layer, Dense):
            product = torch.matmul(coefficients.reshape(members, rows * specs, -1), layer.weight)
            return product.reshape(product.shape[0], rows, specs, -1)
        if isinstance(layer, Elementwise):
            return coefficients * layer.scale.expand(-1, -1, *shape).flatten(2).unsqueeze(2)
        size = (self.source[1], self.source[2])
        result = self._convolve(coefficients.flatten(1, 2), (shape[1], shape[2]), size, layer.window.padding)
        return result.reshape(result.shape[0], rows, specs, -1)

    def patches(self, coefficients: Tensor, patch: Patch, shape: Shape) -> tuple[Tensor, Patch]:
        """(G | 1, N, S, C area) on windows of a (C, H, W) map -> coefficients and windows on the layer's input.

        An elementwise layer whose numbers differ between pixels needs N written out (not 1).
        """
        layer = self.layer
        rows, specs = coefficients.shape[1:3]
        if isinstance(layer, Elementwise):
            if layer.scale[0, 0].numel() == layer.scale.shape[2]:  # one number per channel
                return coefficients * layer.scale.flatten(2).repeat_interleave(patch.area, 2).unsqueeze(2), patch
            seen = windows(layer.scale.expand(-1, -1, *shape), patch)  # (G | 1, count, C area)
            return (coefficients.unflatten(1, (-1, patch.count)) * seen[:, None, :, None]).flatten(1, 2), patch
        assert isinstance(layer, ConvLayer)
        before = patch.before(layer.window)
        result = self._convolve(coefficients.flatten(1, 2), patch.kernel, before.kernel, (0, 0))
        return result.reshape(result.shape[0], rows, specs, -1), before

    def _convolve(self, rows: Tensor, given: Pair, wanted: Pair, padding: Pair) -> Tensor:
        """(G | 1, M, O h w) on maps of size ``given`` -> (G, M, C H W) on maps of size ``wanted``."""
        layer = self.layer
        assert isinstance(layer, ConvLayer)
        if not is_small(layer.weight, layer.window, given, wanted):
            return self._as_convolution(rows.unflatten(2, (-1, *given)), wanted, padding).flatten(2)
        return torch.matmul(rows, self.matrix(given, wanted, padding))

    def matrix(self, outputs: Pair, inputs: Pair, padding: Pair) -> Tensor:
        """The convolution as a matrix (G, O outputs, C inputs); see :func:`convolution_matrix`."""
        layer = self.layer
        assert isinstance(layer, ConvLayer)
        key = (outputs, inputs, padding)
        if key not in self._matrices:
            self._matrices[key] = convolution_matrix(layer.weight, layer.window, outputs, inputs, padding)
        return self._matrices[key]

    def _as_convolution(self, maps: Tensor, size: Pair, padding: Pair) -> Tensor:
        layer = self.layer
        assert isinstance(layer, ConvLayer)
        if _has_phases(layer.window):
            if self._phases is None:
                self._phases = phases(layer.weight, layer.window.stride[0])
            return _by_phases(maps, self._phases, layer.window.stride[0], size, padding)
        return _native(maps, layer.weight, layer.window, size, padding)


def _has_phases(window: Window) -> bool:
    return window.groups == 1 and window.dilation == (1, 1) and window.stride[0] == window.stride[1]


def phases(weight: Tensor, stride: int) -> Tensor:
    """Kernels of the stride-1 convolution that is a transposed convolution of ``stride``, before interleaving pixels.

    An input pixel at place p of its stride-cell receives from the kernel taps p, p + stride, p + 2 stride, ...: each
    place is an ordinary convolution with ceil(k / stride) taps. A stride-1 convolution runs several times faster on a
    CPU than a transposed one.

    Args:
        weight: (G, O, C, kh, kw).
        stride: of the convolution, both directions.

    Returns:
        (G, C stride stride, O, ceil(kh / stride), ceil(kw / stride)), the order that ``pixel_shuffle`` interleaves.
    """
    members, outputs, channels, height, width = weight.shape
    taps = (-(-height // stride), -(-width // stride))
    whole = F.pad(weight, (0, taps[1] * stride - width, 0, taps[0] * stride - height))
    cells = whole.reshape(members, outputs, channels, taps[0], stride, taps[1], stride)
    by_place = cells.permute(0, 2, 4, 6, 1, 3, 5).flip(5, 6)  # (G, C, row place, column place, O, taps, taps)
    return by_place.reshape(members, channels * stride * stride, outputs, *taps)


def _by_phases(maps: Tensor, kernels: Tensor, stride: int, size: Pair, padding: Pair) -> Tensor:
    taps = (kernels.shape[-2], kernels.shape[-1])
    full = population_conv(maps, kernels, Window(taps, padding=(taps[0] - 1, taps[1] - 1)))
    if stride > 1:
        full = F.pixel_shuffle(full, stride)
    # a pixel that no window reads lies beyond what the convolution gives
    missing = [max(size[i] + padding[i] - full.shape[-2 + i], 0) for i in (0, 1)]
    if any(missing):
        full = F.pad(full, (0, missing[1], 0, missing[0]))
    return full[..., padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def _native(maps: Tensor, weight: Tensor, window: Window, size: Pair, padding: Pair) -> Tensor:
    """A transposed convolution of (G | 1, M, O, h, w) by the members' kernels (G, O, C / groups, kh, kw)."""
    extra = []
    for i in (0, 1):
        reach = (window.kernel[i] - 1) * window.dilation[i] + 1
        extra.append(size[i] + 2 * padding[i] - (maps.shape[-2 + i] - 1) * window.stride[i] - reach)
    within = [min(e, window.stride[i] - 1) for i, e in enumerate(extra)]
    rest = [e - w for e, w in zip(extra, within, strict=True)]
    options = (None, window.stride, padding, within)
    members = max(maps.shape[0], weight.shape[0])
    maps, weight = maps.expand(members, *maps.shape[1:]), weight.expand(members, *weight.shape[1:])
    if members == 1 or maps.device.type == "cpu":
        each = [
            F.conv_transpose2d(m, w, *options, window.groups, window.dilation)
            for m, w in zip(maps, weight, strict=True)
        ]
        result = torch.stack(each)
    else:
        joint = F.conv_transpose2d(
            maps.transpose(0, 1).flatten(1, 2),
            weight.flatten(0, 1),
            *options,
            members * window.groups,
            window.dilation,
        )
        result = joint.unflatten(1, (members, -1)).transpose(0, 1)
    return F.pad(result, (0, rest[1], 0, rest[0])) if any(rest) else result
