"""Intervals pushed through a network in place, where nobody asks for gradients: the quick twin of ``Query.interval``.

The same arithmetic with fewer passes over memory. Centres and radii are written over where no later node reads them,
the first convolution is one product of what its pixels read with the kernels of all members, and maps lie in memory
with all members' channels of a pixel side by side, so that one grouped convolution serves the group. What is new goes
to a :mod:`~gls_es.bounds.workspace`.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.bounds.box import Box
from gls_es.bounds.curved import image
from gls_es.bounds.nodes import chunks, folded, margin_rows
from gls_es.bounds.pairs import folded_pairs, interval_pair_margins, worth_it
from gls_es.bounds.query import Query
from gls_es.bounds.workspace import Workspace, workspace
from gls_es.network.graph import Activation, Node, Nonlinear, Reshape
from gls_es.network.layers import ConvLayer, Dense, Layer, Selection, propagate

Interval = tuple[Tensor, Tensor]


class Sweep:
    """Intervals of a query's nodes, centre and radius (G | 1, B, *shape) each, made in order and let go when read.

    Args:
        query: layers and graph; nothing in it is changed.
        box: the box of the images to bound.
        work: where intervals are written.
        keep: fill ``kept``.

    Attributes:
        kept: by ReLU, bounds and centre (l, u, c) of its input, (G | 1, B, *shape) each, row-major, in ``work``.
    """

    def __init__(self, query: Query, box: Box, work: Workspace, *, keep: bool = False) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._keep = keep
        self._query = query
        self._box = box
        self._work = work
        self._values: dict[int, Interval] = {query.regions.box: (box.centre, box.radius)}
        self._readers = [len(readers) for readers in query.graph.consumers]

    def run(self, stop: int) -> None:
        """Push the box up to node ``stop``, which stays, as do nodes that later nodes read."""
        for index in range(self._query.regions.box + 1, stop + 1):
            node = self._query.node(index)
            if isinstance(node, Nonlinear) and self._keep:
                self._set_aside(index, node)
            made = self._nonlinear(node) if isinstance(node, Nonlinear) else self._affine(index, node)
            for source in node.inputs:
                self._readers[source] -= 1
                if self._readers[source] == 0:
                    self._let_go(source, made)
            self._values[index] = made

    def state(self, index: int) -> Interval:
        """Centre and radius of a node that is still held."""
        return self._values[index]

    def finish(self) -> None:
        """Hand everything back."""
        for index in list(self._values):
            self._let_go(index, ())
        for parts in self.kept.values():
            self._work.give(*parts)

    def _let_go(self, index: int, kept: tuple[Tensor, ...]) -> None:
        places = {tensor.data_ptr() for tensor in kept}
        self._work.give(*(tensor for tensor in self._values.pop(index) if tensor.data_ptr() not in places))

    def _mine(self, index: int) -> bool:
        """Whether a node's value may be written over: no other node reads it, and it is not the caller's."""
        return self._readers[index] == 1 and index != self._query.regions.box

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _nonlinear(self, node: Node) -> Interval:
        source = node.inputs[0]
        centre, radius = self._values[source]
        if isinstance(node, Activation):
            least, greatest = image(node, centre - radius, centre + radius)
            middle = torch.lerp(least, greatest, 0.5)
            return middle, greatest - middle
        lower = self._like(centre)
        torch.sub(centre, radius, out=lower)
        upper = centre.add_(radius) if self._mine(source) else torch.add(centre, radius, out=self._like(centre))
        lower.clamp_min_(0)
        upper.clamp_min_(0)
        middle = torch.lerp(lower, upper, 0.5, out=radius if self._mine(source) else self._like(radius))
        self._work.give(lower)
        return middle, upper.sub_(middle)

    def _set_aside(self, index: int, node: Node) -> None:
        """Keep what lines are made from, as backward passes read it."""
        centre, radius = self._values[node.inputs[0]]
        lower, upper, middle = (self._work.take(centre.shape, centre) for _ in range(3))
        torch.sub(centre, radius, out=lower)
        torch.add(centre, radius, out=upper)
        self.kept[index] = (lower, upper, middle.copy_(centre))

    def _affine(self, index: int, node: Node) -> Interval:
        query = self._query
        layer, before = query.layers[index], [self._values[i] for i in node.inputs]
        if node.inputs[0] == query.regions.box and reads_pixels(layer, self._box):
            return self._first_convolution(layer, node)
        if isinstance(layer, ConvLayer):
            bias = None if layer.bias is None else layer.bias.flatten()
            centre, radius = before[0]
            return _convolved(centre, layer, layer.weight, bias), _convolved(radius, layer, layer.absolute, None)
        if isinstance(layer, Dense):
            return self._dense(layer, *before[0])
        if isinstance(layer, Selection):
            centre = layer.linear(*(c for c, _ in before))
            return centre if layer.bias is None else centre.add_(layer.bias), layer.radius(*(r for _, r in before))
        if layer is not None:
            centre = layer.linear(before[0][0])
            return centre if layer.bias is None else centre.add_(layer.bias), layer.radius(before[0][1])
        if isinstance(node, Reshape):
            return self._reshaped(before[0][0], node), self._reshaped(before[0][1], node)
        parts = [propagate(None, node, [value[place] for value in before]) for place in (0, 1)]
        return parts[0], parts[1]

    def _first_convolution(self, layer: ConvLayer, node: Node) -> Interval:
        centre, radius = self._box.pixels(layer.window)
        members, images = len(layer.weight), len(self._box)
        kernels = layer.weight.flatten(2).flatten(0, 1)  # (G O, C kh kw)
        sizes = layer.absolute.flatten(2).flatten(0, 1)
        if layer.bias is None:
            centre = centre[:-1]
        else:
            kernels = torch.cat([kernels, layer.bias.reshape(-1, 1)], 1)
        found = []
        for rows, matrix in ((centre, kernels), (radius, sizes)):
            joint = self._work.take((rows.shape[1] * rows.shape[2], len(matrix)), rows)
            torch.mm(rows.flatten(1).t(), matrix.t(), out=joint)
            maps = joint.view(images, node.shape[1], node.shape[2], members, node.shape[0])
            found.append(maps.permute(3, 0, 4, 1, 2))
        return found[0], found[1]

    def _dense(self, layer: Dense, centre: Tensor, radius: Tensor) -> Interval:
        members, outputs = layer.weight.shape[:2]
        found = []
        for value, weight in ((centre, layer.weight), (radius, layer.absolute)):
            if len(value) == 1:  # one input for all: the members' matrices are one
                joint = self._work.take((value.shape[1], members * outputs), value)
                torch.mm(value[0], weight.flatten(0, 1).t(), out=joint)
                found.append(joint.view(-1, members, outputs).transpose(0, 1))
            else:
                out = self._work.take((members, value.shape[1], outputs), value)
                found.append(torch.bmm(value, weight.transpose(1, 2), out=out))
        if layer.bias is not None:
            found[0].add_(layer.bias)
        return found[0], found[1]

    def _reshaped(self, value: Tensor, node: Node) -> Tensor:
        shape = (*value.shape[:2], *node.shape)
        if value.is_contiguous() and self._mine(node.inputs[0]):
            return value.view(shape)
        flat = self._work.take(value.shape, value)
        return flat.copy_(value).view(shape)

    def _like(self, value: Tensor) -> Tensor:
        """A buffer of the same shape and order in memory."""
        if value.is_contiguous() or value.dim() != 5:
            return self._work.take(value.shape, value)
        members, images, channels, height, width = value.shape
        return self._work.take((images, height, width, members, channels), value).permute(3, 0, 4, 1, 2)


def _convolved(value: Tensor, layer: ConvLayer, weight: Tensor, bias: Tensor | None) -> Tensor:
    """All members' convolutions as one grouped convolution of (G | 1, B, C, H, W)."""
    members, window = len(weight), layer.window
    value = value.expand(members, *value.shape[1:])
    joint = value.transpose(0, 1).flatten(1, 2)  # no copy: the members' channels lie side by side
    if members > 1 or not joint.is_contiguous():
        joint = joint.contiguous(memory_format=torch.channels_last)
    kernels = weight.flatten(0, 1)
    groups = members * window.groups
    found: Tensor = F.conv2d(joint, kernels, bias, window.stride, window.padding, window.dilation, groups)
    return found.view(len(found), members, -1, *found.shape[2:]).transpose(0, 1)


def swept_margins(query: Query, labels: Tensor) -> Tensor:
    """What ``nodes.interval_margins`` gives, without the pre-activations, for networks that end in a linear layer.

    Args:
        query: a query without a model of rounding; no node of it is computed.
        labels: (B,), int64.

    Returns:
        (G, B, K - 1), lower bounds of f_y - f_j.
    """
    work = workspace()
    work.restart()
    output = query.graph.output
    layer = query.layers[output]
    assert isinstance(layer, Dense)
    sizes = folded_pairs(layer).abs_() if worth_it(len(layer.weight[0]), len(labels)) else None
    found = []
    for part in swept_parts(query):
        sweep = Sweep(query, query.box.images(part.start, part.stop), work)
        sweep.run(query.source(output))
        state = sweep.state(query.source(output))
        if sizes is None:
            rows = margin_rows(labels[part], len(layer.weight[0]), query.box.centre)
            found.append(-folded(query, output, rows, sweep.state))
        else:
            found.append(interval_pair_margins(layer, sizes, *state, labels[part]))
        sweep.finish()
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def swept_parts(query: Query) -> list[slice]:
    """The images in parts whose intervals are pushed together; what their first convolutions read is made once."""
    for index in query.graph.consumers[query.regions.box]:
        first = query.layers[index]
        if reads_pixels(first, query.box):
            query.box.pixels(first.window)
    return chunks(len(query.box), query.plan.swept_images(query))


def reads_pixels(layer: Layer | None, box: Box) -> TypeGuard[ConvLayer]:
    """Whether a layer that reads ``box`` is a convolution that one product computes for all members."""
    return isinstance(layer, ConvLayer) and box.worth_columns(layer.window, len(layer.weight))
