"""Lower bounds of single margins for given slopes and split multipliers: the dual that α- and β-CROWN climb.

A goal is one margin of one image, on the image's ball or on a part of it that splits of neurons cut out. With lower
slopes α in [0, 1] the backward pass bounds the goal for every choice (Xu et al., arXiv 2011.13824). A split fixes the
sign σ of a pre-activation z, so σ z >= 0 there, and for a multiplier β >= 0 the goal is at least the lower bound of
goal - β σ z (Wang et al., arXiv 2103.06624): the coefficients that arrive at z, after the ReLU's own rule, get -β σ.

Every goal is an image of its own to the query, with one row of coefficients, so its slopes are its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER
from gls_es.bounds import Plan, entry_box, method_named
from gls_es.bounds.box import Box
from gls_es.bounds.curved import curve_of
from gls_es.bounds.nodes import backward_rows, margin_rows
from gls_es.bounds.pieces import by_pieces
from gls_es.bounds.plan import row_size
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import Lines, enclose
from gls_es.bounds.step import row_dot
from gls_es.bounds.tangents import lines_of_slopes, touching
from gls_es.certification.cells import cell
from gls_es.certification.rounding import sound_query
from gls_es.network import Network
from gls_es.network.activations.curve import Curve
from gls_es.network.graph import Node

ROWS_AT_ONCE = 64
"""Goals that one backward pass takes at once: a row each, where a plan counts all rows of a node."""

Layers = dict[int, Tensor]
"""A tensor for every ReLU, by its index in the graph."""


@dataclass(frozen=True)
class Goals:
    """D margins of images, each on the image's ball or on a part of it.

    Attributes:
        image: places of the images in the batch, (D,), int64.
        column: columns of the images' margins, (D,), int64.
        signs: the splits: +1 where z >= 0, -1 where z <= 0, 0 where nothing is fixed; (D, *shape) by ReLU, int8. For
            other activations the cells of ``certification.cells``.
        slopes: lower slopes α in [0, 1], (D, *shape) by ReLU. For other activations those of both lines, see
            :func:`sloped`: a goal meets one of them, as the sign of its coefficient says.
        multipliers: β >= 0, (D, *shape) by ReLU; they count only where ``signs`` is not 0.
        curved: which of the activations are no ReLUs.
    """

    image: Tensor
    column: Tensor
    signs: Layers
    slopes: Layers
    multipliers: Layers
    curved: frozenset[int] = field(default=frozenset(), kw_only=True)

    def __len__(self) -> int:
        return len(self.image)

    def at(self, index: Tensor) -> Goals:
        """The goals at the given places, or where a mask holds."""
        layers = ({i: v[index] for i, v in part.items()} for part in self._layers())
        return Goals(self.image[index], self.column[index], *layers, curved=self.curved)

    def joined(self, other: Goals) -> Goals:
        """These goals, then the others."""
        parts = zip(self._layers(), other._layers(), strict=True)
        layers = ({i: torch.cat([v, theirs[i]]) for i, v in mine.items()} for mine, theirs in parts)
        return Goals(
            torch.cat([self.image, other.image]), torch.cat([self.column, other.column]), *layers, curved=self.curved
        )

    def _layers(self) -> tuple[Layers, Layers, Layers]:
        return self.signs, self.slopes, self.multipliers


@dataclass(frozen=True)
class Balls:
    """What is known of a batch's balls before any split.

    Attributes:
        proof: bounds that hold in floating point (float64, with a model of rounding): only these decide.
        search: the same pre-activation bounds without rounding guards, in the precision of the search.
        rows: the margins' coefficients on the output as upper bounds want them, (B, K - 1, K), float64.
    """

    proof: Query
    search: Query
    rows: Tensor

    @classmethod
    def around(
        cls,
        net: Network,
        lower: Tensor,
        upper: Tensor,
        labels: Tensor,
        *,
        execution: str,
        method: str = "best",
        dtype: torch.dtype = torch.float32,
        plan: Plan | None = None,
    ) -> Balls:
        """The balls of a batch, their pre-activations bounded by ``method``.

        Args:
            net: the network.
            lower: (B, *input_shape), float64, see ``rounding.outward_ball``.
            upper: the same shape.
            labels: (B,), int64.
            execution: what is certified, see ``rounding.sound_margins``.
            method: a name from ``gls_es.bounds.METHODS``.
            dtype: the precision of the search.
            plan: chunk sizes of the backward passes.
        """
        with torch.no_grad():
            proof = sound_query(net, lower, upper, execution=execution, plan=plan)
            method_named(method).preactivations(proof)
            proof.others = []
            fill_constants(proof)
            rows = margin_rows(labels, net.num_classes, proof.box.centre)[0]
            box = entry_box(net, Box.between(lower.to(dtype), upper.to(dtype)))
            search = Query.ask(net, net.parameter_vector().to(box.centre)[None], box, plan=plan)
            search.bounds = {relu: (low.to(dtype), up.to(dtype)) for relu, (low, up) in proof.bounds.items()}
            fill_constants(search)
            proof.plan = search.plan = replace(proof.plan, deadline=NEVER)  # it was that of making the balls
        return cls(proof, search, rows)

    @property
    def overflowing(self) -> Tensor:
        """Where an executed number may overflow, so that no bound is finite: (B,), bool."""
        errors = self.proof.errors or {}
        finite = [error.isfinite().flatten(2).all(dim=2)[0] for error in (self.proof.box.radius, *errors.values())]
        return ~torch.stack(finite).all(dim=0)

    @property
    def bytes_of_a_goal(self) -> int:
        """What one goal's signs, slopes and multipliers take."""
        neurons = sum(math.prod(self.search.node(relu).shape) for relu in self.search.relus)
        return max(1, neurons * (1 + 2 * self.search.box.centre.element_size()))

    def at(self, images: Tensor) -> Balls:
        """The balls of some images, (B,), int64."""
        return Balls(self.proof.selected(images), self.search.selected(images), self.rows[images])

    def goals(self, image: Tensor, column: Tensor) -> Goals:
        """Unsplit goals with slopes 0, in the precision of the search."""
        found: dict[str, Layers] = {"signs": {}, "slopes": {}, "multipliers": {}}
        for relu in self.search.relus:
            value = self.search.box.centre.new_zeros(len(image), *self.search.node(relu).shape)
            found["slopes"][relu], found["multipliers"][relu] = value, value
            found["signs"][relu] = value.to(torch.int8)
        curved = frozenset(i for i in self.search.relus if curve_of(self.search.node(i)) is not None)
        return Goals(image, column, **found, curved=curved)

    def lower_bounds(self, goals: Goals) -> Tensor:
        """Bounds in the search's precision, (D,), unguarded; differentiable in slopes and multipliers."""
        return dual_bounds(self.search, self.wanted(goals), goals)

    @torch.no_grad()
    def proven_bounds(self, goals: Goals) -> Tensor:
        """Bounds that hold for the executed network, (D,), float64; NaN or infinite where nothing is known."""
        return dual_bounds(self.proof, self.wanted(goals), goals)

    def wanted(self, goals: Goals) -> Tensor:
        """Minus the goals' coefficients on the output, (D, K)."""
        return self.rows[goals.image, goals.column]

    def tightened(self, relu: int, lower: Tensor, upper: Tensor) -> Balls:
        """The balls with other proven bounds of a ReLU's inputs, (1, B, *shape), float64, nowhere wider than before.

        Rounding errors stay those of the wider bounds.
        """
        everything = torch.arange(len(self.rows), device=self.rows.device)
        balls = self.at(everything)
        balls.proof.bounds[relu] = lower, upper
        dtype = balls.search.box.centre.dtype
        balls.search.bounds[relu] = lower.to(dtype), upper.to(dtype)
        return balls


def fill_constants(query: Query) -> None:
    """Compute all constant parts and rounding errors of a query, so that selections of its images share them."""
    query.interval(query.graph.output)
    for index in (*(query.source(relu) for relu in query.relus), query.graph.output):
        query.base(index)


def dual_bounds(
    root: Query, wanted: Tensor, goals: Goals, *, start: int | None = None, offsets: Mapping[int, Tensor] | None = None
) -> Tensor:
    """Lower bounds of goals, (D,), in the root's precision.

    Args:
        root: the batch, with bounds for every ReLU that hold on the whole balls.
        wanted: minus the goals' coefficients on the flat value of node ``start``, (D, F).
        goals: the images, the parts of their balls, slopes and multipliers.
        start: the node, by default the output.
        offsets: what to add to the lower side of each ReLU's output, (D, *shape) by ReLU: zeros whose gradient is the
            coefficient that arrives at that output.
    """
    start = root.graph.output if start is None else start
    query = root.selected(goals.image)
    query.plan = Plan(ROWS_AT_ONCE * row_size(root.graph, start) * query.box.centre.element_size())
    dtype = query.box.centre.dtype
    constant = query.box.centre.new_zeros(len(goals))
    for relu in (relu for relu in query.relus if relu <= start):  # the start itself may be one
        part = cell(query.node(relu), *query.bounds[relu], goals.signs[relu][None])
        low, up, sign = part.lower, part.upper, part.sign
        query.bounds[relu] = low, up
        base = query.base(query.source(relu))
        slopes = goals.slopes[relu].to(dtype)[None]
        lines = sloped(query.node(relu), low, up, base, slopes, above=slopes)  # a goal meets one of both lines
        if offsets is not None:
            lines = replace(lines, mean_offset=lines.mean_offset + offsets[relu][None])
        query.set_lines(relu, lines)
        if not bool(sign.any()):
            continue
        multiplier = _within(goals.multipliers[relu].to(dtype), 0.0, math.inf)[None] * sign
        query.multipliers[relu] = multiplier
        size = torch.maximum(low.abs(), up.abs())
        if base is not None:
            size = size + base.abs()
            constant = constant + (multiplier * base).flatten(2).sum(2)[0]
        if part.point is not None:
            constant = constant - (multiplier * part.point).flatten(2).sum(2)[0]
        if query.guard:
            constant = constant + query.guard * (multiplier.abs() * size).flatten(2).sum(2)[0]
    rows = wanted.to(dtype)[None, :, None]  # (1, D, 1, F)
    upper = backward_rows(query, start, rows)[0, :, 0]
    base = query.base(start)
    if base is not None:
        upper = upper + row_dot(rows, base.flatten(2))[0, :, 0]
    return -(upper + constant)


def adaptive_slopes(node: Node, lower: Tensor, upper: Tensor) -> Tensor:
    """The slopes α of the lower lines with the least area; 1/2 for other activations, see :func:`sloped`."""
    return (upper + lower > 0).to(lower.dtype) if curve_of(node) is None else torch.full_like(lower, 0.5)


def _within(values: Tensor, least: float, greatest: float) -> Tensor:
    """The values cut off at both ends, with gradient 1 at the ends themselves, where an ascent begins.

    ``torch.clamp`` has it until torch 2.13; from 2.14 on its gradient is 0 there, and nothing would ever move.
    """
    return torch.where((values >= least) & (values <= greatest), values, values.detach().clamp(least, greatest))


def _spread(f: Curve, lower: Tensor, upper: Tensor) -> Tensor:
    """About how much a curve's slopes differ on [lower, upper]: at five points and between them."""
    points = [torch.lerp(lower, upper, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    values = [f.value(z) for z in points]
    gap = ((upper - lower) / 4).clamp_min(torch.finfo(lower.dtype).tiny)
    chords = [(after - before) / gap for before, after in pairwise(values)]
    slopes = torch.stack([f.slope(z) for z in points] + chords)
    least, greatest = f.steepness
    return (slopes.amax(dim=0) - slopes.amin(dim=0)).clamp(max=greatest - least)  # chords of narrow ones are rounding


def sloped(
    node: Node, lower: Tensor, upper: Tensor, base: Tensor | None, slopes: Tensor, *, above: Tensor | None = None
) -> Lines:
    """The lines with the given lower slopes on unstable neurons.

    Args:
        node: the activation.
        lower: bounds of its input.
        upper: the same shape.
        base: the constant part of the input.
        slopes: in [0, 1]. For other activations than ReLU they say by how much the lower line's slope differs from that
            of the least area: not at all at 1/2, and at the ends by as much as the curve's slopes differ there.
        above: the same for the upper line of other activations than ReLU; None for that of the least area.
    """
    f = curve_of(node)
    if f is not None:
        spread = torch.where(f.crooked(lower, upper), _spread(f, lower, upper), 0.0)
        under = spread * (2 * _within(slopes, 0.0, 1.0) - 1)
        over = torch.zeros_like(under) if above is None else spread * (2 * _within(above, 0.0, 1.0) - 1)

        def found(piece: Curve, low: Tensor, up: Tensor, *moved: Tensor) -> tuple[Tensor, ...]:
            touched = (touching(piece, low, up, 0.5, sign) for sign in (-1.0, 1.0))
            first, second = (slope + more for slope, more in zip(touched, moved, strict=True))
            return lines_of_slopes(piece, low, up, None, (first, second)).parts

        return Lines(*by_pieces(f, torch.broadcast_tensors(lower, upper, under, over), found)).moved(base)

    def rule(low: Tensor, up: Tensor, _slope: Tensor) -> Tensor:
        unstable = (low < 0) & (up > 0)
        return torch.where(unstable, _within(slopes, 0.0, 1.0), ((low >= 0) & (up > 0)).to(low.dtype))

    return enclose(lower, upper, base, rule)
