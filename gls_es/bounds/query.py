"""One question to the network: some members' weights, some images' boxes, and what is known about them so far.

A method (``crown``, ``ibp``, ...) fills in the pre-activation bounds ReLU by ReLU; everything else is derived from them
on demand and kept: intervals of every node, the lines of every ReLU, the constant parts of the affine regions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from gls_es.basics.memory import reuse_freed_blocks
from gls_es.bounds.box import Box
from gls_es.bounds.curved import curve_of, enclosed, execution_error, image
from gls_es.bounds.matrix import is_small
from gls_es.bounds.patches import Patch, windows
from gls_es.bounds.plan import Plan
from gls_es.bounds.regions import Regions, regions
from gls_es.bounds.relaxation import Lines, LowerSlope, enclose
from gls_es.bounds.roundness import ball_radius
from gls_es.bounds.transpose import Transposed
from gls_es.network import Network
from gls_es.network.graph import Constant, Graph, Node, Nonlinear, Reshape, Scale, Select
from gls_es.network.layers import ConvLayer, Dense, Elementwise, Layer, Selection, propagate, reached
from gls_es.network.steps import Steps, constant_steps


class RoundingError(Protocol):
    """How much computed values may be off."""

    def __call__(self, size: Tensor, terms: int, steps: Steps | None = None, inputs: Tensor | None = None) -> Tensor:
        """The largest error, of the shape of ``size``.

        Args:
            size: the sums of the absolute values of their terms, (G | 1, B, *shape).
            terms: how many products a sum has.
            steps: what is computed on the way, if it is more than the sum.
            inputs: the absolute values of what the products multiply, (G | 1, B, ...); None if there are no products.
        """
        ...


@dataclass
class Query:
    """Members x images under one method.

    Attributes:
        graph: the network's graph.
        layers: its layers with the members' weights, (G, ...).
        box: the box at node ``regions.box``.
        members: G.
        plan: the chunk sizes of backward passes.
        rounding: the error model of the executor, or None for plain bounds (see ``certification.rounding``).
        guard: with an error model, the relative error of computing one term of a backward pass.
        bounds: pre-activation bounds (l, u), (G, B, *shape) each, by ReLU index; methods fill it in order.
        errors: with an error model, how much each node's computed value may be off, (G, B, *shape).
        others: queries with other bounds for the same question, where a method combines several.
        multipliers: coefficients added to those on a ReLU's input in backward passes, (1 | G, B, *shape) by ReLU.
    """

    graph: Graph
    layers: list[Layer | None]
    box: Box
    plan: Plan
    members: int
    rounding: RoundingError | None = None
    guard: float = 0.0
    bounds: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    errors: dict[int, Tensor] | None = None
    others: list[Query] = field(default_factory=list)
    multipliers: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.regions: Regions = regions(self.graph)
        self._intervals: dict[int, tuple[Tensor, Tensor]] = {}
        self._lines: dict[int, Lines] = {}
        self._bases: dict[int, Tensor | None] = {}
        self._transposed: dict[int, Transposed] = {}
        self._seen: dict[tuple[int, int, int, Patch | None], tuple[Tensor, ...]] = {}
        if self.rounding is not None:
            self.errors = {}
        self._intervals[self.regions.box] = (self.box.centre, self.box.reach)

    @classmethod
    def ask(
        cls,
        net: Network,
        params: Tensor,
        box: Box,
        *,
        plan: Plan | None = None,
        rounding: RoundingError | None = None,
        guard: float = 0.0,
    ) -> Query:
        """The query for the weights ``params`` (G, L) and the boxes that :func:`entry_box` gave."""
        plan = Plan.default(box.centre.device.type) if plan is None else plan
        if box.centre.device.type == "cpu":
            reuse_freed_blocks()
        return cls(net.graph, net.layers(params, sizes=rounding is not None), box, plan, len(params), rounding, guard)

    def restarted(self) -> Query:
        """The same question with no ReLU bounded yet; layers, kernels and all before the first ReLUs are shared."""
        fresh = replace(self, bounds={}, errors=None, others=[])
        fresh._transposed = self._transposed
        fixed = [i for i, after in enumerate(self.regions.after_relu) if not after]
        fresh._intervals = {i: self._intervals[i] for i in fixed if i in self._intervals}
        fresh._bases = {i: self._bases[i] for i in fixed if i in self._bases}
        if self.errors is not None:
            fresh.errors = {i: self.errors[i] for i in fixed if i in self.errors}
        return fresh

    def selected(self, images: Tensor) -> Query:
        """The same question about some images, one as often as it is named, with the bounds known so far.

        Rounding errors and constant parts are kept, so no intervals are computed again; lines are not.

        Args:
            images: (D,), int64, places in this query.
        """
        parts = {relu: (lower[:, images], upper[:, images]) for relu, (lower, upper) in self.bounds.items()}
        part = replace(self, box=self.box.selected(images), bounds=parts, errors=None, others=[], multipliers={})
        part._transposed = self._transposed
        for index, base in self._bases.items():
            part._bases[index] = base if base is None or base.shape[1] == 1 else base[:, images]
        if self.errors is not None:
            part.errors = {index: error[:, images] for index, error in self.errors.items()}
        return part

    def part(self, images: slice) -> Query:
        """The same question about some images, with nothing known; layers and kernels are shared."""
        part = replace(self, box=self.box.images(images.start, images.stop), bounds={}, errors=None, others=[])
        part._transposed = self._transposed
        return part

    def member(self, place: int) -> Query:
        """The same question about one member, with the lines and constant parts known so far (views)."""
        one = slice(place, place + 1)
        layers = [_layer_of_member(layer, one) for layer in self.layers]
        alone = replace(self, layers=layers, box=self.box.members(place, place + 1), members=1, bounds={}, others=[])
        alone._lines = {relu: lines.members(one) for relu, lines in self._lines.items()}
        alone._bases = {i: base if base is None else _of_member(base, one) for i, base in self._bases.items()}
        return alone

    def set_base(self, index: int, base: Tensor) -> None:
        """Give the constant part of a node that no ReLU lies before, (G | 1, B, *shape), where it is known already."""
        self._bases[index] = base

    @property
    def relus(self) -> tuple[int, ...]:
        """Indices of the ReLUs and other activations, in topological order."""
        return self.graph.relus()

    def node(self, index: int) -> Node:
        """The node at ``index``."""
        return self.graph.nodes[index]

    def source(self, index: int) -> int:
        """Index of a node's first input."""
        return self.graph.nodes[index].inputs[0]

    def for_all(self, value: Tensor) -> Tensor:
        """A value that may not depend on the weights (leading 1), for every member."""
        return value.expand(self.members, *value.shape[1:])

    def transposed(self, index: int) -> Transposed:
        """The layer of node ``index``, read backwards."""
        if index not in self._transposed:
            layer = self.layers[index]
            assert layer is not None
            assert not isinstance(layer, Selection)
            self._transposed[index] = Transposed(layer, self.node(self.source(index)).shape)
        return self._transposed[index]

    # -- intervals ----------------------------------------------------------------------------------------------------

    def interval(self, index: int) -> tuple[Tensor, Tensor]:
        """Centre and radius of node ``index`` by intervals from the bounds known so far, (G | 1, B, *shape)."""
        found = self._intervals.get(index)
        if found is None:
            node = self.node(index)
            if isinstance(node, Nonlinear):
                lower, upper = image(node, *self.bounds[index])
                centre = torch.lerp(lower, upper, 0.5)
                found = self._rounded(index, centre, upper - centre)
            else:
                found = self._affine_interval(index)
            self._intervals[index] = found
        return found

    def _affine_interval(self, index: int) -> tuple[Tensor, Tensor]:
        node, layer = self.node(index), self.layers[index]
        before = [self.interval(i) for i in node.inputs]
        at_box = node.inputs[0] == self.regions.box
        if isinstance(layer, ConvLayer) and at_box and self.box.worth_columns(layer.window, self.members):
            centre, radius = self._first_convolution(layer, node)
        else:
            centre, radius = self._pushed(index, layer, node, before)
        if self.box.round and isinstance(layer, Dense | ConvLayer) and self._reads_ball(node.inputs[0]):
            radius = ball_radius(layer, self.box, self.node(node.inputs[0]).shape, self.guard)
        if layer is not None and layer.bias is not None:
            centre = centre + layer.bias
        if self.rounding is not None and not isinstance(node, (Reshape, Select)):
            error = self._affine_error(layer, node, before)
            assert self.errors is not None
            self.errors[index] = error.expand(-1, len(self.box), *[-1] * len(node.shape))
            radius = radius + error
        return centre, radius

    def _reads_ball(self, index: int) -> bool:
        """Whether a node is the box in another shape."""
        while isinstance(self.node(index), Reshape):
            index = self.source(index)
        return index == self.regions.box

    def _pushed(
        self, index: int, layer: Layer | None, node: Node, before: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Centre and radius through the linear part of a node."""
        if isinstance(layer, ConvLayer) and self.members > 1:
            source = self.node(node.inputs[0]).shape
            outputs, inputs = (node.shape[1], node.shape[2]), (source[1], source[2])
            if is_small(layer.weight, layer.window, outputs, inputs):
                matrix = self.transposed(index).matrix(outputs, inputs, layer.window.padding).transpose(1, 2)
                centre, radius = (v.flatten(2) for v in before[0])
                through = torch.matmul(centre, matrix), torch.matmul(radius, matrix.abs())
                return through[0].unflatten(2, node.shape), through[1].unflatten(2, node.shape)
        centre = propagate(layer, node, [c for c, _ in before])
        return centre, reached(layer, node, [r for _, r in before])

    def _first_convolution(self, layer: ConvLayer, node: Node) -> tuple[Tensor, Tensor]:
        centre, radius = self.box.columns(layer.window)
        kernels = layer.weight.flatten(2).flatten(0, 1)  # (G O, C kh kw): all members' kernels read the same columns
        shape = (len(self.box), self.members, *node.shape)
        both = (torch.matmul(kernels, centre), torch.matmul(kernels.abs(), radius))
        return both[0].reshape(shape).transpose(0, 1), both[1].reshape(shape).transpose(0, 1)

    def _affine_error(self, layer: Layer | None, node: Node, before: list[tuple[Tensor, Tensor]]) -> Tensor:
        """What execution can change in the node's value, from |W| |z| + |b| and |z|."""
        assert self.rounding is not None
        sizes = []
        for source, (centre, radius) in zip(node.inputs, before, strict=True):
            base = self.base(source)
            sizes.append(centre.abs() + radius if base is None else centre.abs() + radius + base.abs())
        if layer is None:
            return self.rounding(propagate(None, node, sizes), len(sizes))
        size = layer.radius(sizes[0])
        if layer.bias_size is not None:
            size = size + layer.bias_size
        return self.rounding(size, layer.terms, layer.steps, sizes[0])

    def _rounded(self, index: int, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """The interval of a nonlinear node's output, widened by what execution may err."""
        if self.rounding is not None:
            assert self.errors is not None
            f, (lower, upper) = curve_of(self.node(index)), self.bounds[index]
            if f is None:
                self.errors[index] = self.rounding(torch.maximum(lower.abs(), upper.abs()), 0)
            else:
                self.errors[index] = execution_error(f, lower, upper, self.rounding, self.guard)
            radius = radius + self.errors[index]
        return centre, radius

    # -- for the backward pass ----------------------------------------------------------------------------------------

    def base(self, index: int) -> Tensor | None:
        """The constant part of a node: its value with the box at its centre and every ReLU's output at zero."""
        if index not in self._bases:
            if not self.regions.after_relu[index]:
                self._bases[index] = self.interval(index)[0]
            elif isinstance(self.node(index), Nonlinear):
                self._bases[index] = None
            else:
                self._bases[index] = self._affine_base(index)
        return self._bases[index]

    def _affine_base(self, index: int) -> Tensor | None:
        node, layer = self.node(index), self.layers[index]
        before = [self.base(i) for i in node.inputs]
        known = [b for b in before if b is not None]
        value = known[0] if len(before) == 2 and len(known) == 1 else None
        if len(known) == len(before) or (known and isinstance(node, Select)):
            value = propagate(layer, node, before)
        if layer is None or layer.bias is None:
            return value
        bias = layer.bias.expand(-1, -1, *node.shape)
        return bias if value is None else value + bias

    def lines(self, index: int) -> Lines:
        """The lines of ReLU ``index``; :meth:`relax` must have been called for it."""
        return self._lines[index]

    def relax(self, index: int, rule: LowerSlope) -> None:
        """Choose the lines of ReLU ``index`` for its bounds."""
        f, base = curve_of(self.node(index)), self.base(self.source(index))
        make = enclose if f is None else partial(enclosed, f)
        self.set_lines(index, make(*self.bounds[index], base, rule))

    def set_lines(self, index: int, lines: Lines) -> None:
        """Put ``lines`` in place of ReLU ``index`` in backward passes."""
        self._lines[index] = self._guarded(index, lines) if self.guard else lines

    def _guarded(self, index: int, lines: Lines) -> Lines:
        """The lines moved apart by what they and their products may be off, see ``certification.rounding``."""
        lower, upper = self.bounds[index]
        base = self.base(self.source(index))
        size = torch.maximum(lower.abs(), upper.abs())
        size = size if base is None else size + base.abs()
        size = size * (lines.mean.abs() + lines.half.abs()) + lines.mean_offset.abs() + lines.half_offset.abs()
        half_offset = lines.half_offset + self.guard * size
        f = curve_of(self.node(index))
        if f is not None and self.rounding is not None:
            half_offset = half_offset + execution_error(f, lower, upper, self.rounding, self.guard)
        return replace(lines, half_offset=half_offset)

    def seen_lines(
        self, index: int, images: slice, patch: Patch | None, sites: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The lines of ReLU ``index`` as the windows of ``patch`` see them, four times (G, N, F)."""
        key = (index, images.start, images.stop, patch)
        found = self._seen.get(key)
        if found is None:
            parts = self._lines[index].images(images.start, images.stop).parts
            found = tuple(p.flatten(2) if patch is None else windows(p, patch, sites) for p in parts)
            if sites is None:  # windows at chosen sites serve one pass only
                self._seen[key] = found
        return found

    def seen_multipliers(self, index: int, images: slice, patch: Patch | None) -> Tensor | None:
        """The multipliers of ReLU ``index`` as the windows of ``patch`` see them, (1 | G, N, F)."""
        found = self.multipliers.get(index)
        if found is None:
            return None
        return found[:, images].flatten(2) if patch is None else windows(found[:, images], patch)

    def forget_seen(self) -> None:
        """Drop the windows' copies of the lines."""
        self._seen.clear()


def _of_member(value: Tensor, one: slice) -> Tensor:
    """A member's part of (G | 1, ...)."""
    return value if len(value) == 1 else value[one]


def _layer_of_member(layer: Layer | None, one: slice) -> Layer | None:
    if layer is None:
        return None
    bias = None if layer.bias is None else _of_member(layer.bias, one)
    if isinstance(layer, Selection):
        return replace(layer, bias=bias)
    if isinstance(layer, Elementwise):
        return replace(layer, scale=_of_member(layer.scale, one), bias=bias)
    return replace(layer, weight=_of_member(layer.weight, one), bias=bias)


def entry_box(net: Network, box: Box, rounding: RoundingError | None = None) -> Box:
    """Push the input's box through the constant scalings in front of the first layer, once for all members."""
    entry = regions(net.graph).box
    centre, radius, slack = box.centre, box.radius, box.slack
    index = 0
    while index != entry:
        index = net.graph.consumers[index][0]
        node = net.graph.nodes[index]
        assert isinstance(node, Scale)
        assert isinstance(node.source, Constant)
        scale, shift = net.constant(node.source, centre)
        inputs = centre.abs() + (radius if slack is None else radius + slack)
        centre, radius = centre * scale + shift, radius * scale.abs()
        slack = None if slack is None else slack * scale.abs()
        if rounding is not None:
            error = rounding(inputs * scale.abs() + shift.abs(), 1, constant_steps(scale), inputs)
            if box.round:  # of every pixel for itself, whatever the others do
                slack = error if slack is None else slack + error
            else:
                radius = radius + error
    return box if entry == 0 else Box(centre, radius, box.round, slack)
