"""``affine``: every value as an affine function of the inputs, give or take a box (near to Neurify, Wang et al. 2018).

A node's values are h ± (β + |E|): a head h, a box part β >= 0, and error terms E of the input's pixels only, as in
``hbox``. Affine maps take them to W h + b, |W| β and W E; sums of branches add each of them. A ReLU with bounds
[l, u] = h ± (β + Σ|E|) keeps all three where l >= 0 and makes them zero where u <= 0. In between it has two enclosures:

* the two parallel lines with the chord's slope s = u / (u - l), as in ``deepz``, but what they are apart goes into the
  box: s h + μ, s β + μ and s E with μ = -s l / 2;
* the fresh interval [0, u], as in ``hbox``: u / 2, u / 2 and 0.

It takes the one with the smaller box, the lines where β <= u / 2. So old boxes do not pile up where little else is
known, and where neurons are nearly stable their values remain functions of the inputs. Other activations have the two
parallel lines with their chord's slope, or their image.

With few inputs E is a few copies of every value, pushed forward with the heads: all bounds cost as much as bounding a
few rows backwards, however many neurons there are. Then the input can be cut into many small parts, on which nearly all
neurons are stable. With many inputs Σ|E| is found by backward passes, as for ``hbox``.

Not a row of the paradox table (arXiv 2102.06700). Discontinuous where the enclosure changes at β = u / 2, and
insensitive.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.bounds.curved import curve_of, enclosed, image
from gls_es.bounds.forward import Forward, Step
from gls_es.bounds.method import Method
from gls_es.bounds.nodes import backward_rows, backward_spread, folded, output_rows
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import Lines, same
from gls_es.network.graph import Graph, Node, Nonlinear
from gls_es.network.layers import propagate

FEW_INPUTS = 64
"""Up to so many inputs their error terms are pushed forward, unless they take more than ``MOST_BYTES``."""
MOST_BYTES = 1 << 28
"""The most bytes of the error terms of a node."""


def _forward(query: Query) -> Forward:
    """Heads and boxes of the query's nodes."""

    def rule(node: Node, lower: Tensor, upper: Tensor, error: Tensor | None) -> Step:
        return _step(node, lower, upper, error, box=forward.state(node.inputs[0])[1])

    forward = Forward(query, rule)
    return forward


def _step(node: Node, lower: Tensor, upper: Tensor, error: Tensor | None, *, box: Tensor) -> Step:
    """Of the two enclosures the one with the smaller box; ``error`` covers the roundings of lines."""
    f = curve_of(node)
    if f is None:
        # relu() has gradient 0 at 0, so a neuron with l = u = 0 gets finite gradients from the guarded division
        above, below = torch.relu(upper), -torch.relu(-lower)
        slope = above / (above - below).clamp_min(torch.finfo(lower.dtype).tiny)
        shift = apart = slope * below * -0.5
        least, greatest = torch.zeros_like(above), above
        exact = ((lower >= 0) & (slope == 1)) | (upper <= 0)
    else:
        lines = enclosed(f, lower, upper, None, same)
        slope, shift, apart = lines.mean, lines.mean_offset, lines.half_offset.clamp_min(0)
        least, greatest = image(node, lower, upper)
        exact = torch.zeros_like(lower, dtype=torch.bool)
    middle = torch.lerp(least, greatest, 0.5)
    fresh = ~exact & (greatest - middle < slope.abs() * box + apart)
    scale, shift = torch.where(fresh, 0.0, slope), torch.where(fresh, middle, shift)
    radius = torch.where(fresh, greatest - middle, apart)
    if error is not None:
        radius = radius + torch.where(exact, 0.0, error)
    return Step(scale, shift, box=radius)


def _few(query: Query) -> bool:
    """Whether error terms are pushed forward."""
    box = query.box
    inputs = math.prod(box.centre.shape[2:])
    values = max(math.prod(node.shape) for node in query.graph.nodes)
    size = query.members * len(box) * inputs * values * box.centre.element_size()
    return inputs <= FEW_INPUTS and size <= MOST_BYTES and not box.round


class _Terms:
    """The inputs' error terms at one node after the other, (G | 1, B n, *shape), of which those not read again go."""

    def __init__(self, query: Query, forward: Forward) -> None:
        box = query.regions.box
        radius = query.box.radius.flatten(2)
        self._query, self._forward, self._reached = query, forward, box
        self._count = radius.shape[2]
        terms = torch.diag_embed(radius).reshape(len(radius), -1, *query.node(box).shape)
        self._known = {box: terms}

    def at(self, index: int) -> Tensor:
        """The terms at node ``index``, which must not be before one that was asked for: (G | 1, B, n, *shape)."""
        query = self._query
        while self._reached < index:
            self._reached += 1
            query.plan.deadline.check()
            self._advance(self._reached)
        found = self._known[index]
        return found.reshape(len(found), -1, self._count, *query.node(index).shape)

    def _advance(self, index: int) -> None:
        query, node = self._query, self._query.node(index)
        before = [self._known.get(i) for i in node.inputs]
        if all(terms is None for terms in before):
            return
        if isinstance(node, Nonlinear):
            terms, scale = before[0], self._forward.step(index).scale.unsqueeze(2)
            assert terms is not None
            self._known[index] = (terms.reshape(len(terms), -1, self._count, *node.shape) * scale).flatten(1, 2)
        else:
            self._known[index] = propagate(query.layers[index], node, before)
        for source in node.inputs:
            if max(query.graph.consumers[source]) == index:
                self._known.pop(source, None)


def _rounded_up(query: Query, total: Tensor) -> Tensor:
    """A sum over the inputs' terms; with a model of rounding, what its own may have lost is added."""
    if query.rounding is None:
        return total
    count = math.prod(query.box.centre.shape[2:])
    return total * (1 + (count + 64) * torch.finfo(total.dtype).eps)


def preactivations(query: Query) -> None:
    """Bounds of every ReLU's input."""
    _fill(query)


def margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j, (G, B, K - 1)."""
    forward = _forward(query)
    if _few(query):
        return _concluded(query, labels, forward, _Terms(query, forward))[0]
    rows = output_rows(query, labels)
    spread = backward_rows(query, query.graph.output, rows)
    return -(folded(query, query.graph.output, rows, forward.state) + spread)


def margins_and_reach(query: Query, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The margins of a network of few inputs, and how far each input moves the affine functions that bound them.

    Args:
        query: of at most :data:`FEW_INPUTS` inputs and ``MOST_BYTES``, with no bounds yet; its ReLUs are bounded, too.
        labels: (B,), int64.

    Returns:
        (G, B, K - 1), and (G, B, n, K - 1): |coefficient| times the input's radius.
    """
    forward, terms = _fill(query)
    assert terms is not None
    return _concluded(query, labels, forward, terms)


def most_boxes(graph: Graph) -> int:
    """On how many boxes at once :func:`margins_and_reach` is possible with one member in float64; 0: on none."""
    inputs = math.prod(graph.nodes[0].shape)
    values = max(math.prod(node.shape) for node in graph.nodes)
    return 0 if inputs > FEW_INPUTS else MOST_BYTES // (8 * inputs * values)


def _fill(query: Query) -> tuple[Forward, _Terms | None]:
    """Bound every ReLU's input; the state of the last one's."""
    forward = _forward(query)
    terms = _Terms(query, forward) if _few(query) else None
    for relu in query.relus:
        source = query.source(relu)
        head, box = forward.state(source)
        if terms is None:
            radius = box + backward_spread(query, source)
        else:
            radius = box + _rounded_up(query, terms.at(source).abs().sum(2))
        query.bounds[relu] = query.for_all(head - radius), query.for_all(head + radius)
        if terms is None:
            scale = forward.step(relu).scale
            none = torch.zeros_like(scale)
            query.set_lines(relu, Lines(scale, none, none, none))
    return forward, terms


def _concluded(query: Query, labels: Tensor, forward: Forward, terms: _Terms) -> tuple[Tensor, Tensor]:
    output = query.graph.output
    rows = output_rows(query, labels)
    reach = torch.matmul(terms.at(output), rows.transpose(2, 3)).abs()
    upper = folded(query, output, rows, forward.state) + _rounded_up(query, reach.sum(2))
    return -upper, reach


AFFINE = Method("affine", "affine functions of the inputs, and intervals for what they miss", preactivations, margins)
