"""Layers that are another layer on values in another order: rows of several axes, transposed convolutions, sums."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gls_es.network.graph import Conv, Pool, Slice, Window
from gls_es.network.operators import Refused
from gls_es.network.translation import Activation, Translation

Pair = tuple[int, int]


def dense_rows(
    t: Translation, where: str, source: Activation, weight: Slice, bias: Slice | None, *, turned: bool
) -> int:
    """One matrix for every row of (rows, in): a convolution with a window of one pixel over a map of rows.

    The weight is (out, in), or (in, out) if it is ``turned``, as that of a transposed convolution is.
    """
    rows, inputs = t.shape(source)
    outputs = weight.shape[1 if turned else 0]
    across = t.arranged(where, source.node, t.numbered(source.node).T.reshape(inputs, rows, 1))
    place = Slice(weight.start, weight.stop, (*weight.shape, 1, 1))
    made = t.add(Conv(where, (across,), (outputs, rows, 1), place, bias, Window((1, 1)), turned=turned))
    return t.arranged(where, made, t.numbered(made).reshape(outputs, rows).T)


def convolved_back(
    t: Translation, where: str, source: int, weight: Slice, bias: Slice | None, window: Window, extra: Pair
) -> int:
    """A transposed convolution: zeros between and around the pixels, and a convolution with the turned kernel.

    Output o receives w[k] z[i] where o = i stride - padding + k dilation (Dumoulin and Visin 2016, section 4).

    Args:
        t: the graph in the making.
        where: the step, for messages.
        source: a map (C, H, W).
        weight: (C, out / groups, kh, kw).
        bias: one number for each output channel.
        window: stride, padding and so on of the convolution that this one is the transposition of.
        extra: rows and columns that are added behind.
    """
    channels, *size = t.nodes[source].shape
    reach = [d * (k - 1) for d, k in zip(window.dilation, window.kernel, strict=True)]
    lines, sizes = [], []
    for n, step, padding, span, more in zip(size, window.stride, window.padding, reach, extra, strict=True):
        length = (n - 1) * step - 2 * padding + span + more + 1
        if length < 1:
            raise Refused("its padding leaves nothing of its result")
        place = torch.arange(length + span) - (span - padding)  # where the convolution's window reads, in steps
        inside = (place >= 0) & (place <= (n - 1) * step) & (place % step == 0)
        lines.append(torch.where(inside, torch.div(place, step, rounding_mode="floor"), -1))
        sizes.append(length)
    grid = lines[0][:, None] * size[1] + lines[1][None]
    grid = torch.where((lines[0][:, None] >= 0) & (lines[1][None] >= 0), grid, -1)
    all_channels = torch.arange(channels)[:, None, None] * math.prod(size)
    spread = t.arranged(where, source, torch.where(grid[None] >= 0, grid[None] + all_channels, -1))
    shape = (weight.shape[1] * window.groups, sizes[0], sizes[1])
    turned = Window(window.kernel, (1, 1), (0, 0), window.dilation, window.groups)
    return t.add(Conv(where, (spread,), shape, weight, bias, turned, turned=True))


def summed(
    t: Translation, where: str, out: Tensor, source: Activation, axes: Sequence[int] | None, *, mean: bool
) -> int:
    """A sum over axes, or a mean: a pool whose window is all that is summed."""
    shape = t.shape(source)
    rank = len(shape) + 1
    over = sorted({axis % rank - 1 for axis in axes or range(rank)})
    if over[0] < 0:
        raise Refused("it sums over the images of a batch")
    kept = [axis for axis in range(len(shape)) if axis not in over]
    count = math.prod(shape[axis] for axis in over)
    rest = math.prod(shape[axis] for axis in kept)
    if kept == list(range(len(kept))):  # the last axes: every channel has a map of its own
        tail = [shape[axis] for axis in over]
        kernel = (tail[0], math.prod(tail[1:]))
        node, made = t.reshaped(source.node, (rest, *kernel), where), (rest, 1, 1)
        window = Window(kernel, kernel, (0, 0), (1, 1), rest)
    else:
        order = t.numbered(source.node).permute(*over, *kept).reshape(1, count, rest)
        node, made = t.arranged(where, source.node, order), (1, 1, rest)
        window = Window((count, 1), (count, 1))
    pooled = t.add(Pool(where, (node,), made, window, count if mean else 1))
    return t.reshaped(pooled, t.shape_of(out), where)
