"""Bounds of whole nodes and of the margins, put together from intervals and backward passes, in chunks.

The chunk of a backward pass is chosen by the bytes of its largest coefficient tensor: on a CPU what fits the cache runs
twice as fast as what does not, and on any machine the memory stays within what was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gls_es.bounds import compiled
from gls_es.bounds.backward import Rows, upper_bounds
from gls_es.bounds.patches import Patch
from gls_es.bounds.plan import channels
from gls_es.bounds.query import Query
from gls_es.bounds.step import row_dot
from gls_es.network.graph import Add, Conv, Linear, Nonlinear, Pool, Reshape
from gls_es.network.layers import Selection

State = Callable[[int], tuple[Tensor, Tensor]]
"""Centre and radius of a node, (G | 1, B, *shape) each, by its index."""


def interval_bounds(query: Query, index: int) -> tuple[Tensor, Tensor]:
    """(l, u) of node ``index`` by interval arithmetic, (G, B, *shape) each."""
    centre, radius = query.interval(index)
    return centre - radius, centre + radius


def backward_bounds(query: Query, index: int) -> tuple[Tensor, Tensor]:
    """(l, u) of node ``index`` by its own backward pass to the box, (G, B, *shape) each.

    Where the interval is exact (the first affine layer) it is used instead.
    """
    if query.regions.exact[index] and not query.box.round:
        return interval_bounds(query, index)
    if query.rounding is not None:
        query.interval(index)  # fills in the rounding errors up to here
    base = query.base(index)
    upper, negated = _every_value(query, index, mirrored=True)
    return (-negated, upper) if base is None else (base - negated, upper + base)


def backward_spread(query: Query, index: int) -> Tensor:
    """Upper bounds of every value of node ``index`` without its constant part, (G, B, *shape).

    With lines through the origin that are their own upper and lower side, that is how far the box can move the value.
    """
    if query.regions.exact[index]:
        return query.interval(index)[1]
    if query.rounding is not None:
        query.interval(index)  # fills in the rounding errors up to here
    return _every_value(query, index, mirrored=False)[0]


def _every_value(query: Query, index: int, *, mirrored: bool) -> Tensor:
    """Upper bounds of the node, and of its negative if ``mirrored``: (1 or 2, G, B, *shape), constants left out."""
    found = None if query.box.round else compiled.every_value(query, index, mirrored=mirrored)
    if found is not None:
        return found
    chunk = query.plan.image_chunk(query, index)
    parts = [_node_chunk(query, index, images, mirrored) for images in chunks(len(query.box), chunk)]
    bounds = torch.cat(parts, 2)
    return bounds.reshape(*bounds.shape[:3], *query.node(index).shape)


def _node_chunk(query: Query, index: int, images: slice, mirrored: bool) -> Tensor:
    """The same for some images, (1 or 2, G, B, F)."""
    shape = query.node(index).shape
    rows = query.plan.row_chunk(query, index)
    found = []
    for part in chunks(channels(shape), rows):
        bounds = upper_bounds(query, index, _identity(query, shape, part, mirrored), images)  # (G, B, positions 2 S)
        found.append(bounds.unflatten(2, (math.prod(shape) // channels(shape), 2 if mirrored else 1, -1)))
    query.forget_seen()
    return torch.cat(found, 4).permute(3, 0, 1, 4, 2).flatten(3)  # (2, G, B, C positions)


def _identity(query: Query, shape: tuple[int, ...], part: slice, mirrored: bool) -> Rows:
    """Rows that read the channels (or features) ``part`` of a node, each at every position."""
    like = query.box.centre
    eye = torch.eye(channels(shape), dtype=like.dtype, device=like.device)[part]
    patch = Patch((shape[1], shape[2])) if len(shape) == 3 else None
    return Rows(eye[None, None], patch, mirrored=mirrored, units=part)


def chunks(total: int, size: int) -> list[slice]:
    """0 .. total in slices of at most ``size``, as even as they can be."""
    size = math.ceil(total / math.ceil(total / size))
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
    rows = output_rows(query, labels)
    upper = backward_rows(query, output, rows)
    base = query.base(output)
    return -upper if base is None else -(upper + row_dot(rows, base))


def backward_rows(query: Query, index: int, rows: Tensor) -> Tensor:
    """Upper bounds of the rows (1, B, S, F) on node ``index`` without its constant part, (G, B, S)."""
    found = None if query.box.round else compiled.rows_on(query, index, rows)
    if found is not None:
        return found
    images = chunks(len(query.box), query.plan.image_chunk(query, index))
    bounds = torch.cat([upper_bounds(query, index, Rows(rows[:, part]), part) for part in images], 1)
    query.forget_seen()
    return bounds


def output_rows(query: Query, labels: Tensor) -> Tensor:
    """:func:`margin_rows` for the query's output, whose rounding errors are known from here on."""
    output = query.graph.output
    if query.rounding is not None:
        query.interval(output)
    return margin_rows(labels, query.node(output).shape[0], query.box.centre)


def interval_margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j by intervals, with the margins folded into the last affine layer, (G, B, K - 1)."""
    return -folded(query, query.graph.output, output_rows(query, labels), query.interval)


def folded(query: Query, index: int, rows: Tensor, state: State, *, mixed: bool = False) -> Tensor:
    """Upper bounds of linear functions of a node: folded into the last affine map that mixes values, then by intervals.

    Args:
        query: the layers and, with a model of rounding, the errors up to ``index``.
        index: the node.
        rows: the functions' coefficients, (G | 1, B, S, F).
        state: what is known of the nodes.
        mixed: whether such a map was met already.

    Returns:
        (G | 1, B, S).
    """
    node, layer = query.node(index), query.layers[index]
    if mixed or isinstance(node, Nonlinear) or index <= query.regions.box:
        centre, radius = (v.flatten(2) for v in state(index))
        return row_dot(rows, centre) + row_dot(rows.abs(), radius)
    total = query.box.centre.new_zeros(())
    if query.errors is not None and index in query.errors:
        total = row_dot(rows.abs(), query.errors[index].flatten(2))
    if isinstance(node, Add):
        left, right = (folded(query, i, rows, state) for i in node.inputs)
        return total + left + right
    if isinstance(node, Reshape):
        return total + folded(query, node.inputs[0], rows, state)
    assert layer is not None
    if layer.bias is not None:
        total = total + row_dot(rows, layer.bias.expand(-1, -1, *node.shape).flatten(2))
    if isinstance(layer, Selection):
        for source, part in zip(node.inputs, layer.spread(rows), strict=True):
            total = total + folded(query, source, part, state)
        return total
    before = query.transposed(index).flat(rows, node.shape)
    return total + folded(query, node.inputs[0], before, state, mixed=isinstance(node, (Linear, Conv, Pool)))
