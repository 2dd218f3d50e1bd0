"""Backward passes by the compiled kernels: a graph and what is known about its ReLUs, written as a list of operations.

The twin of :mod:`gls_es.bounds.backward`, used where the kernels are built, on a CPU. Windows
need no bookkeeping here: a pass keeps the part of each map that the start can see, cut off at the border, so that
padding is left out by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gls_es import kernels
from gls_es.bounds.box import Box
from gls_es.bounds.query import Query
from gls_es.bounds.step import size_dot
from gls_es.kernels import Chain, Map, Op
from gls_es.network.graph import Add, Conv, Graph, Input, Linear, Pool, ReLU, Reshape, Scale
from gls_es.network.layers import ConvLayer, Dense, Elementwise

COMPILED = (Add, Conv, Input, Linear, Pool, ReLU, Reshape, Scale)
"""Nodes that there are operations for."""


def every_value(query: Query, index: int, *, mirrored: bool) -> Tensor | None:
    """Upper bounds of every value of a node, and of its negative if ``mirrored``, constants left out.

    Returns:
        (1 or 2, G, B, *shape); None where the kernels cannot do it.
    """
    shape = query.node(index).shape
    spatial = len(shape) == 3
    units, positions = (shape[0], (shape[1], shape[2])) if spatial else (math.prod(shape), None)
    found = _bounds(query, index, units, positions=positions, rows=None, mirrored=mirrored)
    if found is None:
        return None
    found = found.reshape(2 if mirrored else 1, query.members, -1, *shape)
    error = _error(query, index)
    return found if error is None else found + error


def rows_on(query: Query, index: int, rows: Tensor) -> Tensor | None:
    """Upper bounds of the rows (1, B, S, F) on a node without its constant part, (G, B, S); None as above."""
    found = _bounds(query, index, rows.shape[2], positions=None, rows=rows, mirrored=False)
    if found is None:
        return None
    found = found[0, ..., 0]
    error = _error(query, index)
    return found if error is None else found + size_dot(rows, error.flatten(2))


def usable(box: Box) -> bool:
    """Whether kernels are built for what bounds over this box are computed with."""
    like = box.radius
    return (
        not box.round
        and kernels.available()
        and like.device.type == "cpu"
        and like.dtype in (torch.float32, torch.float64)
    )


def runs(graph: Graph, box: Box) -> bool:
    """Whether backward passes of a network run here, as far as the kinds of its nodes say."""
    return usable(box) and all(isinstance(node, COMPILED) for node in graph.nodes)


def _bounds(
    query: Query, index: int, units: int, *, positions: tuple[int, int] | None, rows: Tensor | None, mirrored: bool
) -> Tensor | None:
    """The bounds of a pass, (signs, G, B, units, positions), with a gradient if one is asked for and there is one."""
    query.plan.deadline.check()
    if not usable(query.box):
        return None
    chain = _Plan(query, index).chain(units, positions, rows, mirrored)
    if chain is None:
        return None
    if torch.is_grad_enabled() and any(t.requires_grad for t in chain.tensors()):
        if any(t.requires_grad for t in chain.constants()):
            return None
        chain = _Plan(query, index, apart=True).chain(units, positions, rows, mirrored)
        return None if chain is None else kernels.differentiable(chain, query.members, len(query.box))
    return chain.run(query.members, len(query.box))


def _error(query: Query, index: int) -> Tensor | None:
    """What rounding errors in a node's value can change, if there are any; a ReLU makes none."""
    return None if query.errors is None or isinstance(query.node(index), ReLU) else query.errors.get(index)


def laned_chain(query: Query, rows: Tensor, relus: Sequence[int]) -> Chain | None:
    """The pass of the rows (1, B, S, F) on the output through lines that a sweep makes of ``relus`` on the way.

    None where the kernels lack an operation, or the box is not where it ends.
    """
    plan = _Plan(query, query.graph.output)
    plan.laned = {relu: place for place, relu in enumerate(relus)}
    return plan.chain(rows.shape[2], None, rows, False)


class _UnsupportedError(Exception):
    """There is no operation for this."""


class _Plan:
    """The operations of a pass from one node to the box."""

    def __init__(self, query: Query, start: int, *, apart: bool = False) -> None:
        self.query = query
        self.apart = apart  # ReLUs are operations of their own, and all coefficients are kept: for gradients
        self.start = start
        self.box = query.regions.box
        self.nodes = query.graph.nodes
        self.needed, self.writers = _writers(query.graph, start, self.box)
        self.slots = {start: 0}
        self.weighed = {start}
        self.passed: set[int] = set()  # ReLUs that were stepped through on the way into their slot
        self.laned: dict[int, int] = {}  # ReLUs whose lines are made on the way, by their number
        self.ops: list[Op] = []

    def chain(self, units: int, positions: tuple[int, int] | None, rows: Tensor | None, mirrored: bool) -> Chain | None:
        """The pass for ``units`` functions; None if it has operations that the kernels lack."""
        try:
            for index in sorted(self.needed, reverse=True):
                self._through(index)
        except _UnsupportedError:
            return None
        start = self._map(self.start)
        chain = Chain(self.ops, max(self.slots.values()) + 1, start, units, positions, rows, mirrored)
        return chain if all(kernels.fits(op) for op in self.ops) else None

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _through(self, index: int) -> None:
        if index in self.passed:
            return
        node, layer = self.nodes[index], self.query.layers[index]
        if index not in self.weighed and self._size(index) is not None:
            place, here = self.slots[index], self._map(index)
            laned = 0 if self.laned else -1
            self.ops.append(Op("step", place, place, here, here, size=self._size(index), laned=laned))
        if index == self.box:
            return
        if isinstance(node, ReLU):
            self._write("step", index, node.inputs[0], **self._through_relu(index))
        elif isinstance(node, (Add, Reshape)):
            folded = len(node.shape) == 3 and len(self.nodes[node.inputs[0]].shape) == 1
            for source in node.inputs:
                self._write("fill" if folded else "copy", index, source)
        elif isinstance(layer, ConvLayer):
            w = layer.window
            self._write_layer("conv", index, layer.weight, (w.kernel, w.stride, w.padding, w.dilation, w.groups))
        elif isinstance(layer, Dense) and isinstance(node, Linear):
            self._write_layer("linear", index, layer.weight, None)
        elif isinstance(layer, Elementwise):
            scale = layer.scale.expand(-1, -1, *node.shape).flatten(2)[:, 0]
            self._write("scale", index, node.inputs[0], weight=scale)
        else:
            raise _UnsupportedError

    def _write_layer(self, kind: str, index: int, weight: Tensor, window: object) -> None:
        """A layer with, if it alone writes there, the ReLU before it."""
        target = self.nodes[index].inputs[0]
        source = self.nodes[target].inputs[0] if isinstance(self.nodes[target], ReLU) else target
        if not self.apart and source != target and self.writers[target] == self.writers[source] == 1:
            self.passed.add(target)
            self._write(kind, index, source, weight=weight, window=window, **self._through_relu(target))
        else:
            self._write(kind, index, target, weight=weight, window=window)

    def _write(self, kind: str, index: int, target: int, **parts: Any) -> None:
        alone = self.writers[target] == 1
        add = target in self.slots
        if not add:
            self.slots[target] = max(self.slots.values()) + 1
        here, there = self._map(index), self._map(target)
        if kind in ("scale", "copy", "step", "fill") and here != there:
            raise _UnsupportedError
        if kind == "fill" and (self.apart or self.laned):
            raise _UnsupportedError
        op = Op(kind, self.slots[index], self.slots[target], there, here, add=add, **parts)
        if alone and kind in ("conv", "linear", "step"):
            op.size, op.store = self._size(target), self.apart or target != self.box
            if self.laned:
                op.laned = max(op.laned, 0)
            self.weighed.add(target)
        self.ops.append(op)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _map(self, index: int) -> Map:
        """How the coefficients on a node lie: those on flat values that were a map, or become one, as on the map."""
        node = self.nodes[index]
        if len(node.shape) == 3:
            return node.shape[0], node.shape[1], node.shape[2]
        if isinstance(node, Linear) or not node.inputs:
            return self._later_map(index)
        return self._map(node.inputs[0])

    def _later_map(self, index: int) -> Map:
        """The map that flat values become if they have one reader after the other until then."""
        node = self.nodes[index]
        for reader in self.query.graph.consumers[index] if isinstance(node, Linear) else ():
            after = self.nodes[reader]
            while len(self.query.graph.consumers[reader]) == 1 and isinstance(after, (ReLU, Scale)):
                reader = self.query.graph.consumers[reader][0]
                after = self.nodes[reader]
            if isinstance(after, Reshape) and len(after.shape) == 3:
                return after.shape[0], after.shape[1], after.shape[2]
        return 1, 1, math.prod(node.shape)

    def _size(self, index: int) -> Tensor | None:
        """What |coefficients| on a node are weighed with: rounding errors, at the box its radius."""
        if index == self.box:
            return self.query.box.radius
        return _error(self.query, index)

    def _through_relu(self, relu: int) -> dict[str, Any]:
        """What an operation is told of a ReLU on its way."""
        if self.laned:
            return {"relu": True, "laned": self.laned[relu]}
        return {"lines": self.query.lines(relu).parts, "multiplier": self.query.multipliers.get(relu)}


def _writers(graph: Graph, start: int, box: int) -> tuple[set[int], dict[int, int]]:
    """The nodes from ``start`` back to the box, and how many coefficients arrive at each."""
    needed, writers = {start}, {start: 1}
    for index in range(start, box, -1):
        if index in needed:
            for source in graph.nodes[index].inputs:
                needed.add(source)
                writers[source] = writers.get(source, 0) + 1
    return needed, writers
