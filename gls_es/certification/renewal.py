"""Bounds of a layer met with those of backward passes, by passes for the neurons that are worth it where that is less.

A neuron that is stable on a part of a box needs no tighter bounds: its lines are exact whatever they are. Passes for
chosen neurons hold coefficients on whole maps, passes for all neurons of a map on windows that cut off what a neuron
does not see. So all are bounded where windows are small against maps, in the first convolutions, and the chosen ones
where they are not, or where few are unstable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from gls_es.bounds.box import Box
from gls_es.bounds.crown import CROWN
from gls_es.bounds.nodes import backward_bounds, backward_margins, backward_rows, margin_rows
from gls_es.bounds.patches import Patch
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import adaptive
from gls_es.network.graph import Conv, Graph, Linear, Pool, Shape

NEGLIGIBLE, NEGLIGIBLE_HEIGHT = 0.02, 0.005
"""The share of a layer's costs, see ``prices``, whose neurons keep the bounds that they had; and of its heights."""
_EASE = 0.6  # products on whole maps are made at about this share of the speed of those in windows

Bounds = dict[int, tuple[Tensor, Tensor]]
"""Pre-activation bounds by ReLU, (N, *shape) each, float64."""


def heights(low: Tensor, up: Tensor) -> Tensor:
    """How far the lines of ReLUs are apart at 0, where the neuron is unstable, else 0."""
    return torch.where((low < 0) & (up > 0), -low * up / (up - low), 0.0)


def renewed(query: Query, index: int, low: Tensor, up: Tensor, price: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The bounds of a node, met with those of backward passes.

    Args:
        query: one member, N boxes, with the lines of all ReLUs before the node.
        index: the node.
        low: what is known, (N, *shape).
        up: likewise.
        price: what a neuron's height costs, (1, *shape); None: as much as any other's.

    Returns:
        Bounds nowhere wider; as they were for stable neurons, and for unstable ones that cost next to nothing, unless
        all neurons are bounded, since that is less work.
    """
    share = NEGLIGIBLE_HEIGHT if price is None else NEGLIGIBLE
    cost = heights(low, up) if price is None else price * heights(low, up)
    cost, order = cost.flatten(1).sort(dim=1, descending=True)
    left = cost.sum(dim=1, keepdim=True) - cost.cumsum(dim=1) + cost
    most = int((left > share * cost.sum(dim=1, keepdim=True)).sum(dim=1).max())
    if most == 0:
        return low, up
    if most >= cost.shape[1] * share_worth(query.graph, index):
        below, above = backward_bounds(query, index)
        return met(low, below[0], torch.maximum), met(up, above[0], torch.minimum)
    return _of_some(query, index, low, up, order[:, :most])


def met(known: Tensor, found: Tensor, tighter: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The tighter of two bounds where the second is a number."""
    return torch.where(found.isfinite(), tighter(known, found), known)


def _of_some(query: Query, index: int, low: Tensor, up: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    shape = low.shape
    low, up = low.flatten(1), up.flatten(1)
    units = low.new_zeros(*chosen.shape, low.shape[1]).scatter_(2, chosen[..., None], 1.0)
    if query.rounding is not None:
        query.interval(index)  # fills in the rounding errors up to here
    upper, negated = backward_rows(query, index, torch.cat([units, -units], dim=1)[None])[0].chunk(2, dim=1)
    base = query.base(index)
    known = torch.zeros_like(low) if base is None else base[0].flatten(1).expand_as(low)
    known = known.gather(1, chosen)
    below = met(low.gather(1, chosen), known - negated, torch.maximum)
    above = met(up.gather(1, chosen), known + upper, torch.minimum)
    return low.scatter(1, chosen, below).reshape(shape), up.scatter(1, chosen, above).reshape(shape)


@lru_cache(maxsize=1024)
def share_worth(graph: Graph, index: int) -> float:
    """The share of a node's neurons up to which passes for them alone are less work than those for all; at most 1."""
    shape = graph.nodes[index].shape
    if len(shape) < 3:
        return 1.0
    return _EASE * min(1.0, _products(graph, index, Patch((shape[1], shape[2]))) / _products(graph, index, None))


def _products(graph: Graph, start: int, patch: Patch | None) -> float:
    """How many products a pass from one neuron takes, if its coefficients lie in windows, or on whole maps (None)."""
    seen: dict[int, Patch | None] = {start: patch}
    total = 0.0
    for index in range(start, 0, -1):
        if index not in seen:
            continue
        node, here = graph.nodes[index], seen[index]
        total += math.prod(node.shape)
        before = graph.nodes[node.inputs[0]].shape
        if isinstance(node, Linear):
            total += math.prod(node.shape) * math.prod(before)
            here = None
        elif isinstance(node, Conv | Pool):
            kernel = math.prod(node.window.kernel)
            channels = before[0] // node.window.groups
            total += _area(node.shape, here) * node.shape[0] * channels * kernel
            here = None if here is None else here.before(node.window)
        elif node.shape != before:
            here = None
        for source in node.inputs:
            other = seen.get(source, here)
            seen[source] = None if other is None or here is None else max(other, here, key=lambda one: one.area)
    return total


def _area(shape: Shape, patch: Patch | None) -> int:
    """How many pixels of a map have coefficients."""
    pixels: int = math.prod(shape[1:])
    return pixels if patch is None else min(patch.kernel[0], shape[1]) * min(patch.kernel[1], shape[2])


@torch.no_grad()
def crown_bounds(query: Query) -> tuple[Tensor, Bounds]:
    """``crown``'s bounds of all rows, (N, R), and of all ReLUs' inputs, which parts of the boxes begin with.

    Args:
        query: one member, with no bounds yet.
    """
    CROWN.preactivations(query)
    bounds = {relu: (low[0], up[0]) for relu, (low, up) in query.bounds.items()}
    return backward_margins(query, torch.zeros(len(query.box), dtype=torch.int64))[0], bounds


@torch.no_grad()
def narrowed(query: Query, known: Bounds) -> tuple[Tensor, Bounds]:
    """Bounds of all rows, (N, R), once every layer is bounded anew, and those bounds.

    Args:
        query: one member, with no bounds yet; afterwards it has them.
        known: bounds that hold on the boxes, at least as tight as those of ``affine``, which are exact where no ReLU
            lies before.
    """
    found: Bounds = {}
    for relu in query.relus:
        source = query.source(relu)
        centre, radius = (value[0] for value in query.interval(source))
        low, up = (
            met(known[relu][0], centre - radius, torch.maximum),
            met(known[relu][1], centre + radius, torch.minimum),
        )
        if query.regions.after_relu[source]:
            low, up = renewed(query, source, low, up)
        found[relu] = low, torch.maximum(low, up)
        query.bounds[relu] = low[None], found[relu][1][None]
        query.relax(relu, adaptive)
    return backward_margins(query, torch.zeros(len(query.box), dtype=torch.int64))[0], found


@torch.no_grad()
def reach(query: Query, row: Tensor) -> Tensor:
    """How far each input moves a row of every box, (N, n): |coefficient| times radius, at the end of its pass.

    Args:
        query: one member, with bounds of all ReLUs.
        row: numbers of the rows, (N,).
    """
    radius = query.box.radius[0].flatten(1)
    count, inputs = radius.shape
    alone = query.selected(torch.arange(count).repeat_interleave(inputs + 1))
    only = torch.cat([torch.zeros(1, inputs), torch.eye(inputs)]).to(radius)  # no input, then one after the other
    parts = (radius[:, None] * only).reshape(alone.box.radius.shape)
    alone.box = Box(alone.box.centre, parts)
    for relu in alone.relus:
        alone.relax(relu, adaptive)
    rows = margin_rows(torch.zeros(1, dtype=torch.int64), alone.node(alone.graph.output).shape[0], radius)
    rows = rows[:, 0, row.repeat_interleave(inputs + 1)][:, :, None]
    found = backward_rows(alone, alone.graph.output, rows)[0].reshape(count, inputs + 1)
    return torch.nan_to_num(found[:, 1:] - found[:, :1]).clamp(min=0)
