"""What methods that go forward carry from node to node: a head, and a box around it.

A node's values are head ± (box + error terms). How error terms spread is the method's; heads and boxes spread alike
for all of them: an affine map takes head and box to W h + b and |W| β, sums of branches add them, and a ReLU scales
them neuron by neuron as the method says.

With a model of rounding the box of every affine node also takes the node's error: what the executor, and the bounds'
own arithmetic, may be off there. As the heads, boxes and terms of a node together never exceed twice the sizes that the
error was made from, and the error covers sixteen times the roundings of those sizes, a node's values stay enclosed
if those of the nodes before it are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.bounds.query import Query
from gls_es.network.graph import Node, Nonlinear
from gls_es.network.layers import propagate, reached


@dataclass(frozen=True)
class Step:
    """Activations as scaled copies of inputs, (G, B, *shape) each: f(z) is within scale z + shift ± (box + term).

    Attributes:
        scale: factor of the head, the box and the error terms.
        shift: what is added to the head.
        box: what is added to the box; None is zero.
        term: sizes of new error terms, one a neuron; None if there are none.
    """

    scale: Tensor
    shift: Tensor
    box: Tensor | None = None
    term: Tensor | None = None


Rule = Callable[[Node, Tensor, Tensor, Tensor | None], Step]
"""A method's step from the node, the bounds (l, u) and, with a model of rounding, the error that the step may make."""


class Forward:
    """Heads and boxes of a query's nodes, from the pre-activation bounds known so far; made on demand and kept."""

    def __init__(self, query: Query, rule: Rule) -> None:
        self._query = query
        self._rule = rule
        self._steps: dict[int, Step] = {}
        self._known: dict[int, tuple[Tensor, Tensor | None]] = {query.regions.box: (query.box.centre, None)}

    def step(self, relu: int) -> Step:
        """What ReLU ``relu`` does; its bounds must be known."""
        if relu not in self._steps:
            query, error = self._query, None
            if query.rounding is not None:
                query.interval(relu)  # fills in the rounding errors up to here
                assert query.errors is not None
                error = query.errors[relu]
            self._steps[relu] = self._rule(query.node(relu), *query.bounds[relu], error)
        return self._steps[relu]

    def state(self, index: int) -> tuple[Tensor, Tensor]:
        """Head and box of node ``index``, (G | 1, B, *shape) each."""
        head, box = self._at(index)
        return head, torch.zeros_like(head) if box is None else box

    def _at(self, index: int) -> tuple[Tensor, Tensor | None]:
        if index not in self._known:
            self._known[index] = self._made(index)
        return self._known[index]

    def _made(self, index: int) -> tuple[Tensor, Tensor | None]:
        query, node = self._query, self._query.node(index)
        before = [self._at(i) for i in node.inputs]
        if isinstance(node, Nonlinear):
            return _scaled(*before[0], self.step(index))
        layer = query.layers[index]
        if query.regions.after_relu[index]:
            head = propagate(layer, node, [h for h, _ in before])
            if layer is not None and layer.bias is not None:
                head = head + layer.bias
        else:
            head = query.interval(index)[0]  # the value at the middle of the box
        boxes = [b for _, b in before]
        box = reached(layer, node, boxes) if any(b is not None for b in boxes) else None
        if query.rounding is not None:
            query.interval(index)
            assert query.errors is not None
            error = query.errors.get(index)  # a reshape makes none
            if error is not None:
                box = error if box is None else box + error
        return head, box


def _scaled(head: Tensor, box: Tensor | None, step: Step) -> tuple[Tensor, Tensor | None]:
    if box is not None:
        box = box * step.scale.abs()  # a curve's chord may fall
    if step.box is not None:
        box = step.box if box is None else box + step.box
    return head * step.scale + step.shift, box
