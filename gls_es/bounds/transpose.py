"""Affine layers read backwards: coefficients on a layer's output become coefficients on its input.

Coefficients are flat, (G, N, S, F): G members, N rows (images, or images x window positions), S specifications, and F
the flattened values they multiply. A leading 1 in place of G or N is shared by all.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.bounds.matrix import convolution_matrix, is_small
from gls_es.bounds.patches import Pair, Patch, to_maps, windows, without_cells
from gls_es.bounds.product import product
from gls_es.network.graph import Shape, Window
from gls_es.network.layers import ConvLayer, Dense, Elementwise, population_conv

CELL_RATIO = 4.0
"""Maps stay in cells where a convolution on them multiplies at most this many times more numbers than on plain maps."""


class Transposed:
    """One layer read backwards, with what it needs more than once (rearranged kernels) made once."""

    def __init__(self, layer: Dense | ConvLayer | Elementwise, source: Shape) -> None:
        self.layer = layer
        self.source = source
        self._phases: dict[int, Tensor] = {}
        self._matrices: dict[tuple[Pair, Pair, Pair], Tensor] = {}

    def flat(self, coefficients: Tensor, shape: Shape) -> Tensor:
        """(G | 1, N, S, F) on whole values of ``shape`` -> (G, N, S, F) on the layer's whole input."""
        layer = self.layer
        if isinstance(layer, Elementwise):
            return coefficients * layer.scale.expand(-1, -1, *shape).flatten(2).unsqueeze(2)
        if isinstance(layer, Dense):
            rows, specs = coefficients.shape[1:3]
            found = product(coefficients.flatten(1, 2), layer.weight)
            return found.reshape(found.shape[0], rows, specs, -1)
        whole = Patch((1, 1), (shape[1], shape[2]))
        return to_maps(*self.patches(coefficients, whole, shape), self.source)

    def unit_rows(self, units: slice) -> Tensor:
        """What :meth:`flat` gives for unit vectors of a linear layer's outputs: (G, 1, S, I), a view of its matrix."""
        assert isinstance(self.layer, Dense)
        return self.layer.weight[:, None, units]

    def patches(
        self, coefficients: Tensor, patch: Patch, shape: Shape, sites: Tensor | None = None
    ) -> tuple[Tensor, Patch]:
        """(G | 1, N, S, C area) on windows of a (C, H, W) map -> coefficients and windows on the layer's input.

        An elementwise layer whose numbers differ between pixels needs N written out (not 1), and the sites.
        """
        layer = self.layer
        rows, specs = coefficients.shape[1:3]
        if isinstance(layer, Elementwise):
            if layer.scale[0, 0].numel() == layer.scale.shape[2]:  # one number per channel, or one for all
                scale = layer.scale.flatten(2).expand(-1, -1, shape[0])
                return coefficients * scale.repeat_interleave(patch.area, 2).unsqueeze(2), patch
            seen = windows(layer.scale.expand(-1, -1, *shape), patch, sites)  # (G | 1, count or B U, C area)
            return (coefficients.unflatten(1, (-1, seen.shape[1])) * seen[:, None, :, None]).flatten(1, 2), patch
        assert isinstance(layer, ConvLayer)
        if patch.cell > 1 and not (_has_phases(layer.window) and _cell_cost(layer.window, patch.cell) <= CELL_RATIO):
            coefficients, patch = without_cells(coefficients, patch)
        result, before = self._convolve(coefficients.flatten(1, 2), patch)
        return result.reshape(result.shape[0], rows, specs, -1), before

    def _convolve(self, rows: Tensor, patch: Patch) -> tuple[Tensor, Patch]:
        """(G | 1, M, O area) -> (G, M, C area) on the windows before the convolution."""
        layer = self.layer
        assert isinstance(layer, ConvLayer)
        before, crop = patch.before(layer.window), (0, 0)
        if patch.count == 1:  # a whole map: keep what lies on the input, and no more
            before, crop = Patch((1, 1), (self.source[1], self.source[2])), before.padding
        if patch.cell == 1 and is_small(layer.weight, layer.window, patch.kernel, before.kernel):
            return product(rows, self.matrix(patch.kernel, before.kernel, crop)), before
        maps = rows.unflatten(2, (-1, *patch.grid))
        if _has_phases(layer.window):
            return self._by_phases(maps, patch)
        return _native(maps, layer.weight, layer.window, before.kernel, crop).flatten(2), before

    def matrix(self, outputs: Pair, inputs: Pair, padding: Pair) -> Tensor:
        """The convolution as a matrix (G, O outputs, C inputs); see :func:`convolution_matrix`."""
        layer = self.layer
        assert isinstance(layer, ConvLayer)
        key = (outputs, inputs, padding)
        if key not in self._matrices:
            self._matrices[key] = convolution_matrix(layer.weight, layer.window, outputs, inputs, padding)
        return self._matrices[key]

    def _by_phases(self, maps: Tensor, patch: Patch) -> tuple[Tensor, Patch]:
        """A stride-1 convolution that leaves its result in cells."""
        layer = self.layer
        assert isinstance(layer, ConvLayer)
        window, cell = layer.window, patch.cell
        if cell not in self._phases:
            self._phases[cell] = phases(in_cells(layer.weight, window.stride[0], cell), window.stride[0] * cell)
        kernels = self._phases[cell]
        taps = (kernels.shape[-2], kernels.shape[-1])
        wide = cell * window.stride[0]
        margin = [taps[i] - 1 for i in (0, 1)]
        before = patch.before(window)
        padding = list(before.padding)
        if wide == 1:  # pixels of the padding at the border can be left out at once
            output = [self.source[1 + i] + 2 * window.padding[i] - window.kernel[i] + 1 for i in (0, 1)]
            exact = patch.count == 1 and patch.padding == (0, 0) and patch.kernel == tuple(output)
            cut = [min(padding[i], margin[i]) if exact else 0 for i in (0, 1)]  # it is cut off at both ends
            margin, padding = [margin[i] - cut[i] for i in (0, 1)], [padding[i] - cut[i] for i in (0, 1)]
        found = population_conv(maps, kernels, Window(taps, padding=(margin[0], margin[1])))
        size = (found.shape[-2] * wide, found.shape[-1] * wide)
        return found.flatten(2), replace(before, kernel=size, padding=(padding[0], padding[1]), cell=wide)


def _has_phases(window: Window) -> bool:
    return window.groups == 1 and window.dilation == (1, 1) and window.stride[0] == window.stride[1]


def _cell_cost(window: Window, cell: int) -> float:
    """How many times more numbers a convolution on cells multiplies than one on plain maps."""
    cost = 1.0
    for kernel, stride in zip(window.kernel, window.stride, strict=True):
        taps = -(-((cell - 1) * stride + kernel) // (cell * stride))
        cost *= cell * taps / -(-kernel // stride)
    return cost


def in_cells(weight: Tensor, stride: int, cell: int) -> Tensor:
    """The kernel of a convolution whose output pixels are taken in cells: (G, O, C, h, w) -> (G, O cell², C, ...).

    Place (i, j) of an output cell reads the kernel shifted by (i, j) strides.
    """
    if cell == 1:
        return weight
    members, outputs, channels, height, width = weight.shape
    extra = (cell - 1) * stride
    wide = weight.new_zeros(members, outputs, cell, cell, channels, height + extra, width + extra)
    for i in range(cell):
        for j in range(cell):
            wide[:, :, i, j, :, i * stride : i * stride + height, j * stride : j * stride + width] = weight
    return wide.flatten(1, 3)


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


def _native(maps: Tensor, weight: Tensor, window: Window, size: Pair, padding: Pair) -> Tensor:
    """A transposed convolution of (G | 1, M, O, h, w) by the members' kernels (G, O, C / groups, kh, kw).

    The maps may be smaller or larger than the layer's output (a whole map's unread border, its margin). PyTorch's own
    padding argument would then cut off pixels that count, so the result is cut or filled up to ``size`` afterwards.
    """
    options = (None, window.stride, 0, 0)
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
    more = [size[i] + padding[i] - result.shape[-2 + i] for i in (0, 1)]
    return F.pad(result, (-padding[1], more[1], -padding[0], more[0]))  # negative: cut
