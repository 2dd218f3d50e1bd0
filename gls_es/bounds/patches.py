"""Receptive fields: coefficients of one output position live on a small window of each earlier map.

A patch says where the windows lie: position i of the node being bounded sees, on the current map, the pixels
i S - P, ..., i S - P + K - 1 (rows and columns alike). Pixels outside the map hold nothing: whatever multiplies them
must be zero, which :func:`windows` gives.

Where only some of a node's neurons are bounded, *sites* (G, B, U) say at which positions they stand, counted row by
row; the windows of image b of member g are then those U and not all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.network.graph import Shape, Window

Pair = tuple[int, int]


@dataclass(frozen=True)
class Patch:
    """Windows of size ``kernel``, ``stride`` apart, the first one ``padding`` before the map's corner.

    A whole map is a single window. With ``cell`` t > 1 the pixels of a window are ordered by their place in t x t cells
    first, as ``pixel_unshuffle`` does: what a strided convolution read backwards gives without rearranging.
    """

    positions: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    cell: int = 1

    @property
    def count(self) -> int:
        """How many windows there are."""
        return self.positions[0] * self.positions[1]

    @property
    def area(self) -> int:
        """Pixels in one window."""
        return self.kernel[0] * self.kernel[1]

    def before(self, window: Window) -> Patch:
        """The windows on the input of the convolution on whose output these windows lie, without cells."""
        k, s, p = self.kernel, self.stride, self.padding
        reach = [(n - 1) * d for n, d in zip(window.kernel, window.dilation, strict=True)]
        return Patch(
            self.positions,
            ((k[0] - 1) * window.stride[0] + reach[0] + 1, (k[1] - 1) * window.stride[1] + reach[1] + 1),
            (s[0] * window.stride[0], s[1] * window.stride[1]) if self.count > 1 else s,
            (p[0] * window.stride[0] + window.padding[0], p[1] * window.stride[1] + window.padding[1]),
        )

    @property
    def grid(self) -> Pair:
        """How many cells a window has, down and across."""
        return self.kernel[0] // self.cell, self.kernel[1] // self.cell

    def overhang(self, shape: Shape) -> tuple[int, int, int, int]:
        """How far windows reach beyond a (C, H, W) map: left, right, top, bottom (F.pad's order)."""
        bottom, right = (
            (self.positions[i] - 1) * self.stride[i] - self.padding[i] + self.kernel[i] - shape[1 + i] for i in (0, 1)
        )
        return self.padding[1], max(right, 0), self.padding[0], max(bottom, 0)

    def hull(self, other: Patch) -> Patch:
        """The smallest patch that holds both (same positions and strides, no cells)."""
        padding = (max(self.padding[0], other.padding[0]), max(self.padding[1], other.padding[1]))
        end = [max(self.kernel[i] - self.padding[i], other.kernel[i] - other.padding[i]) for i in (0, 1)]
        return Patch(self.positions, (end[0] + padding[0], end[1] + padding[1]), self.stride, padding)


def windows(values: Tensor, patch: Patch, sites: Tensor | None = None) -> Tensor:
    """What each window sees: (G, B, C, H, W) -> (G, B count, C area), zero outside the map.

    With sites (G, B, U) the result is (G, B U, C area), and the values may be shared, with 1 for G or B.
    """
    if patch.cell > 1:
        plain = windows(values, replace(patch, cell=1), sites).unflatten(2, (-1, *patch.kernel))
        return F.pixel_unshuffle(plain, patch.cell).flatten(2)
    shape = values.shape[2:]
    overhang = patch.overhang(tuple(shape))
    if any(overhang):
        values = F.pad(values, overhang)
    if sites is not None:
        return _windows_at(values, patch, sites)
    unfolded = values.unfold(3, patch.kernel[0], patch.stride[0]).unfold(4, patch.kernel[1], patch.stride[1])
    unfolded = unfolded[:, :, :, : patch.positions[0], : patch.positions[1]]  # (G, B, C, h, w, kh, kw)
    members, images, channels = values.shape[:3]
    return unfolded.permute(0, 1, 3, 4, 2, 5, 6).reshape(members, images * patch.count, channels * patch.area)


def _windows_at(values: Tensor, patch: Patch, sites: Tensor) -> Tensor:
    """The windows at ``sites`` of padded maps, (G, B U, C area): a window's rows are copied as pieces of memory."""
    members, images, channels, height, width = values.shape
    first = torch.arange(members * images, device=values.device).reshape(members, images, 1) * (
        channels * height * width
    )
    row = sites.div(patch.positions[1], rounding_mode="floor") * patch.stride[0]
    column = sites.remainder(patch.positions[1]) * patch.stride[1]
    down = torch.arange(patch.kernel[0], device=values.device) * width
    along = torch.arange(channels, device=values.device) * (height * width)
    rows = (along[:, None] + down).flatten()
    index = (first + row * width + column)[..., None] + rows  # (G, B, U, C kh)
    pieces = values.flatten().unfold(0, patch.kernel[1], 1).index_select(0, index.flatten())
    return pieces.reshape(len(sites), -1, channels * patch.area)


def without_cells(coefficients: Tensor, patch: Patch) -> tuple[Tensor, Patch]:
    """The same coefficients (G, N, S, C area) with the pixels of a window in row-major order."""
    if patch.cell == 1:
        return coefficients, patch
    cells = coefficients.unflatten(3, (-1, *patch.grid))
    return F.pixel_shuffle(cells, patch.cell).flatten(3), replace(patch, cell=1)


def widened(coefficients: Tensor, patch: Patch, hull: Patch) -> Tensor:
    """Coefficients (G, N, S, C area) on ``patch`` as coefficients on the larger ``hull``."""
    if patch == hull:
        return coefficients
    top, left = hull.padding[0] - patch.padding[0], hull.padding[1] - patch.padding[1]
    bottom = hull.kernel[0] - patch.kernel[0] - top
    right = hull.kernel[1] - patch.kernel[1] - left
    maps = coefficients.unflatten(3, (-1, *patch.kernel))
    return F.pad(maps, (left, right, top, bottom)).flatten(3)


def to_maps(coefficients: Tensor, patch: Patch, shape: Shape, sites: Tensor | None = None) -> Tensor:
    """Coefficients on windows as coefficients on whole maps.

    Args:
        coefficients: (G, N, S, C area), with N = B count, or 1 for coefficients that all images and positions share.
        patch: where the windows lie on the map.
        shape: the map, (C, H, W).
        sites: which windows there are, (G, B, U); None for all.

    Returns:
        (G, B or 1, count S, C H W), with U for count where there are sites.
    """
    coefficients, patch = without_cells(coefficients, patch)
    members, rows, specs = coefficients.shape[:3]
    if patch.count == 1 and patch.kernel == shape[1:] and patch.padding == (0, 0):
        return coefficients
    where = _pixels(patch, shape).to(coefficients.device)  # (count, H W)
    where = where[None, None] if sites is None else where[sites]
    count = where.shape[2]
    if rows == 1:
        coefficients = coefficients.expand(-1, count, -1, -1)
    spread = coefficients.reshape(members, -1, count, specs * shape[0], patch.area)
    spread = F.pad(spread, (0, 1))  # the last column is what pixels outside a window read
    index = where[:, :, :, None].expand(*spread.shape[:4], -1)
    maps = spread.gather(4, index)  # (G, B, count, S C, H W)
    return maps.reshape(members, maps.shape[1], count * specs, shape[0] * shape[1] * shape[2])


def _pixels(patch: Patch, shape: Shape) -> Tensor:
    """For every window and pixel of the map: the pixel's place in the window, or ``area`` where it lies outside."""
    inside, place = [], []
    for axis in (0, 1):
        first = torch.arange(patch.positions[axis]) * patch.stride[axis] - patch.padding[axis]
        offset = torch.arange(shape[1 + axis])[None] - first[:, None]  # (positions, pixels)
        inside.append((offset >= 0) & (offset < patch.kernel[axis]))
        place.append(offset)
    row, column = place[0][:, None, :, None], place[1][None, :, None, :]
    found = row * patch.kernel[1] + column
    ok = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    return torch.where(ok, found, torch.full_like(found, patch.area)).flatten(2).flatten(0, 1)
