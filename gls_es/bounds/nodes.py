"""Bounds of whole nodes and of the margins, put together from intervals and backward passes, in chunks.

The chunk of a backward pass is chosen by the bytes of its largest coefficient tensor: on a CPU what fits the cache runs
twice as fast as what does not, and on any machine the memory stays within what was asked for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.bounds.backward import Rows, upper_bounds
from gls_es.bounds.patches import Patch
from gls_es.bounds.plan import channels
from gls_es.bounds.query import Query
from gls_es.bounds.step import row_dot
from gls_es.graph import Add, Conv, Linear, Pool, ReLU, Reshape


def interval_bounds(query: Query, index: int) -> tuple[Tensor, Tensor]:
    """(l, u) of node ``index`` by interval arithmetic, (G, B, *shape) each."""
    centre, radius = query.interval(index)
    return centre - radius, centre + radius


def backward_bounds(query: Query, index: int) -> tuple[Tensor, Tensor]:
    """(l, u) of node ``index`` by its own backward pass to the box, (G, B, *shape) each.

    Where the interval is exact (the first affine layer) it is used instead.
    """
    if query.regions.exact[index]:
        return interval_bounds(query, index)
    if query.rounding is not None:
        query.interval(index)  # fills in the rounding errors up to here
    shape = query.node(index).shape
    base = query.base(index)
    images = query.plan.image_chunk(query, index)
    parts = [_node_chunk(query, index, part) for part in _chunks(len(query.box), images)]
    upper, negated = (torch.cat([p[i] for p in parts], 1) for i in (0, 1))
    upper, lower = upper.unflatten(2, shape), -negated.unflatten(2, shape)
    return (lower, upper) if base is None else (lower + base, upper + base)


def _node_chunk(query: Query, index: int, images: slice) -> tuple[Tensor, Tensor]:
    """Upper bounds of the node and of its negative for some images, (G, B, F) each, without the constant part."""
    shape = query.node(index).shape
    rows = query.plan.row_chunk(query, index)
    found = []
    for part in _chunks(channels(shape), rows):
        bounds = upper_bounds(query, index, _identity(query, shape, part), images)  # (G, B, positions 2 S)
        found.append(bounds.unflatten(2, (math.prod(shape) // channels(shape), 2, -1)))
    query.forget_seen()
    both = torch.cat(found, 4).permute(3, 0, 1, 4, 2).flatten(3)  # (2, G, B, C positions)
    return both[0], both[1]


def _identity(query: Query, shape: tuple[int, ...], part: slice) -> Rows:
    """Rows that read the channels (or features) ``part`` of a node, each at every position."""
    like = query.box.centre
    eye = torch.eye(channels(shape), dtype=like.dtype, device=like.device)[part]
    patch = Patch((shape[1], shape[2])) if len(shape) == 3 else None
    return Rows(eye[None, None], patch, mirrored=True)


def _chunks(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def margin_rows(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """C with rows e_j - e_y, j the classes other than y in ascending order: (1, B, K - 1, K)."""
    others = torch.arange(classes - 1, device=labels.device)[None]
    others = others + (others >= labels[:, None])
    rows = torch.zeros(len(labels), classes - 1, classes, dtype=like.dtype, device=like.device)
    rows.scatter_(2, others[..., None], 1.0)
    rows.scatter_(2, labels[:, None, None].expand(-1, classes - 1, 1), -1.0)
    return rows[None]


def backward_margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j by one backward pass from the margins, (G, B, K - 1)."""
    output = query.graph.output
    if query.rounding is not None:
        query.interval(output)
    rows = margin_rows(labels, query.node(output).shape[0], query.box.centre)
    base = query.base(output)
    parts = []
    for images in _chunks(len(query.box), query.plan.image_chunk(query, output)):
        part = rows[:, images]
        upper = upper_bounds(query, output, Rows(part), images)
        if base is not None:
            upper = upper + row_dot(part, base[:, images] if base.shape[1] > 1 else base)
        parts.append(-upper)
    query.forget_seen()
    return torch.cat(parts, 1)


def interval_margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j by intervals, with the margins folded into the last affine layer, (G, B, K - 1)."""
    output = query.graph.output
    query.interval(output)
    rows = margin_rows(labels, query.node(output).shape[0], query.box.centre)
    return -_folded(query, output, rows, mixed=False)


def _folded(query: Query, index: int, rows: Tensor, *, mixed: bool) -> Tensor:
    """Upper bounds of the rows (G | 1, B, S, F) on node ``index``: folded into one affine map, then by intervals."""
    node, layer = query.node(index), query.layers[index]
    if mixed or isinstance(node, ReLU) or index <= query.regions.box:
        centre, radius = (v.flatten(2) for v in query.interval(index))
        return row_dot(rows, centre) + row_dot(rows.abs(), radius)
    total = query.box.centre.new_zeros(())
    if query.errors is not None and index in query.errors:
        total = row_dot(rows.abs(), query.errors[index].flatten(2))
    if isinstance(node, Add):
        left, right = (_folded(query, i, rows, mixed=False) for i in node.inputs)
        return total + left + right
    if isinstance(node, Reshape):
        return total + _folded(query, node.inputs[0], rows, mixed=False)
    assert layer is not None
    if layer.bias is not None:
        total = total + row_dot(rows, layer.bias.expand(-1, -1, *node.shape).flatten(2))
    before = query.transposed(index).maps(rows, node.shape)
    return total + _folded(query, node.inputs[0], before, mixed=isinstance(node, (Linear, Conv, Pool)))
