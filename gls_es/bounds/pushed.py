"""Intervals by the compiled kernels: a graph written as a list of operations that push a box forward.

The quick twin of :class:`~gls_es.bounds.sweep.Sweep`, used where the kernels are built, on a CPU, and the values of a
block of images fit the cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from gls_es import kernels
from gls_es.bounds.box import Box
from gls_es.bounds.compiled import laned_chain, usable
from gls_es.bounds.nodes import output_rows
from gls_es.bounds.pairs import folded_pairs, pair_margins
from gls_es.bounds.query import Query
from gls_es.bounds.regions import regions
from gls_es.bounds.step import row_dot
from gls_es.bounds.workspace import workspace
from gls_es.kernels import Chain, Map, Push, Sweep
from gls_es.network.graph import Add, Conv, Graph, Linear, Node, Pool, ReLU, Reshape, Scale
from gls_es.network.layers import ConvLayer, Dense, Elementwise

PUSHED = (Conv, Pool, Linear, Scale, Add, ReLU, Reshape)
IN_PLACE = (Scale, Add, ReLU)
FOREVER = 1 << 62

LEAST = 8
"""Images that a backward pass in lanes pays for: with fewer, most lanes are empty."""

LARGEST = 3 << 13
"""The most numbers that the values alive at a time may have: beyond it they leave the cache, and large products win."""


def pushed_margins(query: Query, labels: Tensor) -> Tensor | None:
    """Margins by intervals with all pairs of classes folded into the last layer, (G, B, K - 1); None: not here.

    Args:
        query: a query without a model of rounding, of a network that ends in a linear layer.
        labels: (B,), int64.
    """
    output = query.graph.output
    layer, places = query.layers[output], layout(query.graph, (query.source(output),))
    assert isinstance(layer, Dense)
    if places is None or not usable(query.box):
        return None
    classes = layer.weight.shape[1]
    like, shape = query.box.centre, (query.members, len(query.box))
    values = like.new_empty(*shape, classes)
    spread = like.new_empty(*shape, classes * (classes - 1) // 2)
    plan = _Plan(query, places)
    plan.dense(query.source(output), layer.weight, layer.bias, 1, values)
    plan.dense(query.source(output), folded_pairs(layer), None, 2, spread)
    plan.run()
    return pair_margins(values, spread, labels)


def pushed_crown_margins(query: Query, labels: Tensor, rule: str) -> Tensor | None:
    """Margins by a backward pass through lines from intervals, (G, B, K - 1); None: not here.

    Lines and coefficients of a few images at a time, an image in each lane, stay in the cache.

    Args:
        query: a query without a model of rounding, of a network with ReLUs.
        labels: (B,), int64.
        rule: the lower slope, of ``gls_es.kernels.RULES``.
    """
    output, relus = query.graph.output, query.relus
    places = layout(query.graph, tuple(query.source(relu) for relu in relus)) if query.graph.only_relus else None
    if places is None or len(query.box) < LEAST or not usable(query.box):
        return None
    bases = {relu: query.base(query.source(relu)) for relu in relus if query.regions.after_relu[query.source(relu)]}
    if any(base is not None and base.shape[1] > 1 for base in bases.values()):
        return None
    rows = output_rows(query, labels)
    chain = laned_chain(query, rows, relus)
    if chain is None:
        return None
    plan = _Plan(query, places)
    plan.line(bases, rule)
    upper = plan.run(chain)
    assert upper is not None
    upper, base = upper[0, ..., 0], query.base(output)
    return -upper if base is None else -(upper + row_dot(rows, base))


def pushable(graph: Graph, box: Box) -> bool:
    """Whether intervals of a network are pushed here, and members need not be bounded a few at a time."""
    return usable(box) and layout(graph, (graph.output,)) is not None


class _Plan:
    """The operations from the box to some nodes, which stay unless others of them are made of them."""

    def __init__(self, query: Query, layout: Layout) -> None:
        self._query = query
        self._nodes = query.graph.nodes
        self._slots, self._place = list(layout.slots), layout.place
        self._ops: list[Push] = []
        self._relus: dict[int, Push] = {}
        for index in layout.order:
            self._add(index, self._nodes[index])

    def dense(self, source: int, weight: Tensor, bias: Tensor | None, parts: int, out: Tensor) -> None:
        """One more linear map, of the centre (1) or the radius (2), whose result is written to ``out`` alone."""
        self._slots.append(weight.shape[1])
        self._linear(source, len(self._slots) - 1, weight, bias, parts)
        self._ops[-1].out = (out, None) if parts == 1 else (None, out)

    def line(self, bases: dict[int, Tensor | None], rule: str) -> None:
        """Make the lines of all ReLUs; ``bases``: the constant parts of their inputs, unless these are the centres."""
        for place, relu in enumerate(self._query.relus):
            source = self._query.source(relu)
            op = self._relus.get(relu)
            if op is None:
                at, flat = self._place[source], _map(self._nodes[source])
                op = Push("copy", at, at, flat, flat)
                self._ops.append(op)
            op.lines, op.rule, op.centred = place, rule, relu not in bases
            base = bases.get(relu)
            op.base = None if base is None else base[:, 0].expand(-1, *self._nodes[source].shape).flatten(1)

    def run(self, chain: Chain | None = None) -> Tensor | None:
        """Run them, with a backward pass behind them if one is given; its bounds."""
        box, work = self._query.box, workspace()
        room: list[Tensor] = []

        def take(count: int, like: Tensor) -> Tensor:
            room.append(work.take((count,), like))
            return room[0]

        found = Sweep(self._ops, self._slots, self._query.members, (box.centre, box.radius)).run(take, chain)
        work.give(*room)
        return found

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _add(self, index: int, node: Node) -> None:
        layer, source, flat = self._query.layers[index], node.inputs[0], _map(node)
        before, place = self._place[source], self._place[index]
        if isinstance(layer, ConvLayer):
            w = layer.window
            window = (w.kernel, w.stride, w.padding, w.dilation, w.groups)
            bias = None if layer.bias is None else layer.bias.flatten(1)
            maps = _map(self._nodes[source]), flat
            self._ops.append(Push("conv", before, place, *maps, weight=layer.weight, bias=bias, window=window))
        elif isinstance(layer, Dense):
            self._linear(source, place, layer.weight, layer.bias, 3)
        elif isinstance(layer, Elementwise):
            scale, shift = (None if v is None else _spread(v, node) for v in (layer.scale, layer.bias))
            self._ops.append(Push("scale", before, place, flat, flat, weight=scale, bias=shift))
        elif isinstance(node, ReLU):
            self._relus[index] = Push("relu", before, place, flat, flat)
            self._ops.append(self._relus[index])
        elif isinstance(node, Add):
            self._ops.append(Push("add", before, place, flat, flat, other=self._place[node.inputs[1]]))

    def _linear(self, source: int, place: int, weight: Tensor, bias: Tensor | None, parts: int) -> None:
        outputs, inputs = weight.shape[1:]
        window = ((1, inputs), (1, 1), (0, 0), (1, 1), 1)
        flat = None if bias is None else bias.flatten(1)
        maps = (1, 1, inputs), (outputs, 1, 1)
        self._ops.append(
            Push("conv", self._place[source], place, *maps, parts=parts, weight=weight, bias=flat, window=window)
        )


@dataclass(frozen=True)
class Layout:
    """Which nodes are computed, and where their values lie.

    Attributes:
        order: the nodes after the box that are needed, in order.
        place: every node's slot; the box has slot 0.
        slots: how many numbers each slot holds.
    """

    order: tuple[int, ...]
    place: dict[int, int]
    slots: tuple[int, ...]


@lru_cache(maxsize=256)
def layout(graph: Graph, stops: tuple[int, ...]) -> Layout | None:
    """Slots for all that ``stops`` depend on, used again when nobody reads them; None if it cannot be pushed."""
    nodes, box = graph.nodes, regions(graph).box
    last = _last_readers(nodes, stops, box)
    slots, until, place = [math.prod(nodes[box].shape)], [FOREVER], {box: 0}
    order = tuple(index for index in sorted(last) if index != box)
    for index in order:
        node, size = nodes[index], math.prod(nodes[index].shape)
        if not isinstance(node, PUSHED):
            return None
        before = place[node.inputs[0]]
        if isinstance(node, Reshape):
            place[index] = before
            continue
        free = [slot for slot, end in enumerate(until) if end < index]
        if isinstance(node, IN_PLACE) and until[before] == index:
            chosen = before
        elif free:
            chosen = min(free, key=lambda slot: abs(slots[slot] - size))
            slots[chosen] = max(slots[chosen], size)
        else:
            chosen = len(slots)
            slots.append(size)
            until.append(0)
        place[index], until[chosen] = chosen, last[index]
    fits = len(slots) < kernels.MOST_SLOTS - 2 and sum(slots) <= LARGEST
    return Layout(order, place, tuple(slots)) if fits else None


def _last_readers(nodes: tuple[Node, ...], stops: Sequence[int], box: int) -> dict[int, int]:
    """The nodes from the box on that ``stops`` depend on, each with the last node that reads its value."""
    last: dict[int, int] = {}
    for index in range(max(stops), box, -1):
        if index in stops:
            last.setdefault(index, FOREVER)  # unless it is read on the way to a later one
        if index in last:
            reader = last[index] if isinstance(nodes[index], Reshape) else index  # a reshaped value is the same one
            for source in nodes[index].inputs:
                last[source] = max(last.get(source, 0), reader)
    return last


def _map(node: Node) -> Map:
    if len(node.shape) == 3:
        return node.shape[0], node.shape[1], node.shape[2]
    return 1, 1, math.prod(node.shape)


def _spread(value: Tensor, node: Node) -> Tensor:
    """One number for each of a node's, (G | 1, numbers)."""
    return value.expand(-1, -1, *node.shape)[:, 0].flatten(1)
