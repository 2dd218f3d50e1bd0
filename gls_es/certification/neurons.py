"""Rule out cases on parts of a box that the signs of neurons cut out, with every bound computed anew on each part.

An unstable neuron, l < 0 < u, is split: z >= 0 on one part, z <= 0 on the other. On each part that neuron is stable, so
what its lines enclosed too much is gone from the bounds of all neurons behind it, which are computed anew by backward
passes from the earliest split on (as in nnenum, Bak et al. 2020, and VeriNet, Henriksen and Lomuscio 2020). The rows
that are open then are raised by slopes and by multipliers of the signs (β-CROWN, with the part's own bounds), which go
on from where the part's parent had them. In deep networks that is worth far more than what ``bab`` gains, which holds
the whole ball's bounds fixed; a part costs far more, too. So the search gives up early where it does not get on.

What is done once, on the whole box: ReLUs that are 0 there are left out (``alive``), the slopes for the bounds of every
layer are climbed (``shared``), and every neuron gets its price (``prices``). Price times height says which neuron is
split, and whose bounds are left as they are: those of the cheapest, which have a small share of their layer's costs
(``renewal``).

A part is empty if bounds contradict each other on it, for they hold for every executed number. A part without unstable
neurons is a linear program (``leaves``). The signs are those of the executed z, and every bound is guarded, so what
this proves holds as what ``halving`` proves does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline, OutOfTime
from gls_es.basics.property import Boundary
from gls_es.bounds.nodes import backward_margins
from gls_es.bounds.query import Query
from gls_es.certification.alive import without_dead
from gls_es.certification.ascent import Ascent, ascend, with_best_start
from gls_es.certification.dual import Balls, Layers, adaptive_slopes
from gls_es.certification.halving import cases_left
from gls_es.certification.leaves import LeafSolver
from gls_es.certification.prices import prices
from gls_es.certification.renewal import Bounds, heights, met, renewed
from gls_es.certification.shared import shared_slopes, take
from gls_es.certification.violation import Violations, Witness

AT_ONCE = 32
"""Parts that are split together."""
MOST_BYTES = 2**29
"""What the bounds of open parts may take."""
MOST_SHARE = 0.6
"""The share of the time after which the search gives up where branch and bound may still decide: cases of one row."""
MOST_PARTS = 20_000
"""Parts after which the search gives up, where nothing else ends it."""
ASCENT = Ascent(steps=6, slope_rate=0.2, multiplier_rate=0.2)
"""The ascent of every part's open rows."""
ROOT_ASCENT = Ascent(steps=20, slope_rate=0.1)
"""That on the whole box."""
LEVELS = (3, 6)
"""Depths at which the search gives up if what lacks falls too slowly, and where it is believed to be right."""
TRIAL = 0.25
"""The share of the time after which the closed share of the tree decides, and how much less than that may be closed."""

Dual = dict[int, tuple[Tensor, Tensor]]
"""Slopes and multipliers of every row by ReLU, (N, R, *shape) each, in the precision of the search."""


@dataclass(frozen=True)
class Parts:
    """Parts of a box that are not ruled out.

    Attributes:
        bounds: what holds on them.
        rows: proven lower bounds of all rows, (N, R), float64.
        dual: from where their slopes and multipliers are climbed on the halves.
        lacking: what the best row of each case lacks to rule it out, (N, cases), 0 where it is ruled out.
        share: of the tree, 2^-depth, (N,).
    """

    bounds: Bounds
    rows: Tensor
    dual: Dual
    lacking: Tensor
    share: Tensor

    def __len__(self) -> int:
        return len(self.share)

    def at(self, index: Tensor | slice) -> Parts:
        """The parts at the given places."""
        bounds, dual = ({relu: (one[index], two[index]) for relu, (one, two) in v.items()} for v in self._pairs())
        return Parts(bounds, self.rows[index], dual, self.lacking[index], self.share[index])

    def joined(self, other: Parts) -> Parts:
        """These parts, then the others."""
        bounds, dual = (_joined(mine, theirs) for mine, theirs in zip(self._pairs(), other._pairs(), strict=True))
        rows, lacking = torch.cat([self.rows, other.rows]), torch.cat([self.lacking, other.lacking])
        return Parts(bounds, rows, dual, lacking, torch.cat([self.share, other.share]))

    def _pairs(self) -> tuple[Bounds, Dual]:
        return self.bounds, self.dual

    @property
    def bytes_of_one(self) -> int:
        """What a part takes."""
        values = (v for pairs in self._pairs() for both in pairs.values() for v in both)
        return sum(v.numel() * v.element_size() for v in values) // max(1, len(self))

    def mean_lack(self) -> float:
        """What the worst case lacks, on the average over the whole box; what is ruled out lacks nothing."""
        return float((self.lacking.amax(dim=1) * self.share).sum())


class NeuronSplits:
    """The search on one box.

    Args:
        violations: the group's search for violations, which also knows the deadline.
        execution: the arithmetic that the bounds cover.
        box: the box.
    """

    def __init__(self, violations: Violations, execution: str, box: Boundary) -> None:
        self._group, self._deadline = violations.group, violations.deadline
        self._violations, self._execution, self._box = violations, execution, box
        self._begun = Deadline.after(0.0)
        self._closed = 0.0  # the share of the tree
        self._single = all(len(rows) == 1 for rows in violations.group.rows)
        self._witness: Witness | None = None
        self.seen = 0

    def run(self) -> tuple[bool, Witness | None]:
        """Whether every case is ruled out on the box, and a violation if one was met; neither if the search gave up."""
        self._begun = Deadline.after(0.0)
        try:
            self._deadline.check()
            lower, upper = self._group.shaped([self._box.outward()])
            label = torch.zeros(1, dtype=torch.int64)
            network, kind = self._group.network, self._execution
            self._balls = Balls.around(network, lower, upper, label, execution=kind, method="crown-intersect")
            self._root = self._balls.proof
            self._ends = lower, upper
            return self._run(), self._witness
        except OutOfTime:
            return False, None

    @torch.no_grad()
    def _run(self) -> bool:
        root = self._root
        if not root.relus or not all(bool(error.isfinite().all()) for error in (root.errors or {}).values()):
            return False
        if 2.0 ** (LEVELS[0] + 1) * -self._begun.left > TRIAL * self._deadline.left:  # a part takes about as long
            return False
        self._prepare()
        parts = self._bounded(self._whole(), behind=-1)
        whole = parts.mean_lack()
        self._begun = Deadline.after(0.0)
        size = parts.bytes_of_one
        while len(parts):
            self._deadline.check()
            if self.seen > MOST_PARTS or len(parts) * size > MOST_BYTES or self._hopeless(parts, whole):
                return False
            taken, parts = parts.at(slice(-AT_ONCE, None)), parts.at(slice(0, -AT_ONCE))
            fresh = self._split(taken)
            if fresh is None:
                return False
            self._closed += float(taken.share.sum() - fresh.share.sum())
            parts = parts.joined(fresh)
        return True

    def _prepare(self) -> None:
        """What is done once on the whole box."""
        self._balls = without_dead(self._balls)
        self._root = self._balls.proof
        self._solver = LeafSolver(self._balls, *self._ends, self._tried)
        search = self._balls.search.selected(torch.zeros(1, dtype=torch.int64))
        soon = self._deadline if self._deadline == NEVER else Deadline.after(TRIAL / 2 * self._deadline.left)
        with torch.enable_grad():
            self._shared = shared_slopes(search, deadline=soon)
        self._prices = prices(search, self._shared)

    def _hopeless(self, parts: Parts, whole: float) -> bool:
        """Whether the search, as far as it has come, would need far more time than there is."""
        spent, left = max(-self._begun.left, 1e-6), self._deadline.left
        share = spent / (spent + left)  # 0 without a limit
        if self._single and share > MOST_SHARE and left < math.inf:
            return True
        depth = -math.log2(float(parts.share.max()))
        affordable = math.log2(max(1.0, min(left / spent * self.seen, MOST_PARTS)))
        if depth < LEVELS[0]:  # so many parts are bounded before anything can be said
            return 2.0 ** (LEVELS[0] + 1) * spent / self.seen > TRIAL * left
        if depth <= LEVELS[1] and self.seen < 2.0 ** (LEVELS[1] + 2):
            fallen = whole - parts.mean_lack()
            return fallen <= 0 or depth * whole / fallen > 2 * affordable
        return share > TRIAL and self._closed < TRIAL * share

    def _split(self, parts: Parts) -> Parts | None:
        """What is left open of both sides of every part; None if one without unstable neurons is."""
        costs = [(self._prices[relu] * heights(*ends)).flatten(1) for relu, ends in parts.bounds.items()]
        most, neuron = torch.cat(costs, dim=1).max(dim=1)
        if not all(self._solved(parts.at(slice(i, i + 1))) for i in (most <= 0).nonzero()[:, 0].tolist()):
            return None
        parts, neuron = parts.at(most > 0), neuron[most > 0]
        if not len(parts):
            return parts
        positive, negative = (_sides(parts.bounds, neuron, sign) for sign in (1, -1))
        first = _relu_of(parts.bounds, int(neuron.min()))
        halves = replace(parts, share=parts.share / 2)
        halves = replace(halves, bounds=positive).joined(replace(halves, bounds=negative))
        return self._bounded(halves, behind=first)

    def _solved(self, part: Parts) -> bool:
        """Whether linear programs rule out what is open on a part without unstable neurons."""
        for case in part.lacking[0].nonzero()[:, 0].tolist():
            before = sum(len(rows) for rows in self._group.rows[:case])
            if not any(self._row_solved(part, before + row) for row in range(len(self._group.rows[case]))):
                return False
        return True

    def _row_solved(self, part: Parts, row: int) -> bool:
        goals = self._balls.goals(torch.zeros(1, dtype=torch.int64), torch.tensor([row]))
        goals.signs.update(self._signs(part.bounds))
        with torch.enable_grad():
            solution = self._solver.solve(goals, deadline=self._deadline)
        if solution.goals is None or self._witness is not None:
            return False
        bound = float(self._balls.proven_bounds(solution.goals))
        return math.isfinite(bound) and bound > 0

    def _tried(self, _image: int, point: Tensor) -> Tensor | None:
        """A program's minimiser, if executing it violates a case."""
        ends = self._group.shaped([self._box.points()])
        inside = torch.clamp(point.float(), ends[0][0], ends[1][0])
        self._witness = self._violations.confirmed(inside, self._box)
        return None if self._witness is None else inside

    def _whole(self) -> Parts:
        """The box itself, no row of which is bounded yet."""
        root, count = self._root, self._balls.rows.shape[1]
        bounds = {relu: (low[0], up[0]) for relu, (low, up) in root.bounds.items()}
        dual: Dual = {}
        for relu, (low, up) in self._balls.search.bounds.items():
            slopes = adaptive_slopes(root.node(relu), low, up).expand(1, count, *low.shape[2:])
            dual[relu] = slopes, torch.zeros_like(slopes)
        nothing = torch.full((1, count), -math.inf, dtype=torch.float64)
        return Parts(bounds, nothing, dual, nothing, torch.ones(1, dtype=torch.float64))

    def _bounded(self, parts: Parts, *, behind: int) -> Parts:
        """The parts that are left open once every ReLU behind one is bounded anew."""
        count = len(parts)
        self.seen += count
        query = self._root.selected(torch.zeros(count, dtype=torch.int64))
        query.plan = replace(query.plan, deadline=self._deadline)
        empty = torch.zeros(count, dtype=torch.bool)
        found: Bounds = {}
        for relu, (low, up) in parts.bounds.items():
            source = query.source(relu)
            if relu > behind and relu in self._shared:
                take(query, {i: value.expand(count, *value.shape[1:]) for i, value in self._shared[relu].items()})
                low, up = renewed(query, source, low, up, self._prices[relu])
            empty |= (low > up).flatten(1).any(dim=1)
            found[relu] = low, torch.maximum(low, up)
            query.bounds[relu] = low[None], found[relu][1][None]
        take(query, {relu: adaptive_slopes(query.node(relu), *found[relu]) for relu in found})
        rows = met(parts.rows, backward_margins(query, torch.zeros(count, dtype=torch.int64))[0], torch.maximum)
        parts = replace(parts, bounds=found, rows=rows)
        left = cases_left(self._group, rows) & ~empty[:, None]
        if bool(left.any()):
            parts = self._climbed(query, parts, left, ASCENT if behind >= 0 else ROOT_ASCENT)
            left &= cases_left(self._group, parts.rows)
        best = torch.stack([case.amax(dim=1) for case in self._group.per_case(parts.rows)], dim=1)
        lacking = torch.nan_to_num(best.neg().clamp(min=0), nan=math.inf).masked_fill(~left, 0.0)
        return replace(parts, lacking=lacking).at(left.any(dim=1).nonzero()[:, 0])

    def _climbed(self, query: Query, parts: Parts, left: Tensor, ascent: Ascent) -> Parts:
        """The parts with their rows' bounds raised by slopes and by multipliers of the signs that hold on them."""
        each = [case[:, None].expand(-1, len(own)) for case, own in zip(left.T, self._group.rows, strict=True)]
        image, column = (torch.cat(each, dim=1) & ~(parts.rows > 0)).nonzero(as_tuple=True)
        if not len(image):
            return parts
        search = self._balls.search.selected(torch.zeros(len(parts), dtype=torch.int64))
        search.bounds = {relu: (low[None].float(), up[None].float()) for relu, (low, up) in parts.bounds.items()}
        balls = Balls(query, search, self._balls.rows.expand(len(parts), -1, -1))
        goals = balls.goals(image, column)
        for relu, signs in self._signs(parts.bounds).items():
            slopes, multipliers = parts.dual[relu]
            goals.signs[relu], goals.slopes[relu] = signs[image], slopes[image, column]
            goals.multipliers[relu] = multipliers[image, column]
        with torch.enable_grad():
            start = with_best_start(balls, balls.lower_bounds, goals, self._deadline)
            found, _ = ascend(balls.lower_bounds, start, ascent, self._deadline)
        proven = met(parts.rows[image, column], balls.proven_bounds(found), torch.maximum)
        dual: Dual = {}
        for relu, (slopes, multipliers) in parts.dual.items():
            slopes = slopes.index_put((image, column), found.slopes[relu])
            dual[relu] = slopes, multipliers.index_put((image, column), found.multipliers[relu])
        return replace(parts, rows=parts.rows.index_put((image, column), proven), dual=dual)

    def _signs(self, bounds: Bounds) -> Layers:
        """The signs of neurons that are stable on the parts and not on the whole box, int8."""
        found: Layers = {}
        for relu, (low, up) in bounds.items():
            below, above = (side[0] for side in self._root.bounds[relu])
            found[relu] = ((low >= 0).to(torch.int8) - (up <= 0).to(torch.int8)) * ((below < 0) & (above > 0))
        return found


def _joined(one: Bounds, other: Bounds) -> Bounds:
    pairs = {relu: (side, other[relu]) for relu, side in one.items()}
    return {relu: (torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for relu, (a, b) in pairs.items()}


def _relu_of(bounds: Bounds, neuron: int) -> int:
    """The ReLU that a place among all neurons lies in."""
    for relu, (low, _) in bounds.items():
        neuron -= low[0].numel()
        if neuron < 0:
            return relu
    raise AssertionError


def _sides(bounds: Bounds, neuron: Tensor, sign: int) -> Bounds:
    """The bounds with the sign of one neuron of each part fixed."""
    found: Bounds = {}
    start = 0
    for relu, (low, up) in bounds.items():
        value = (low if sign > 0 else up).flatten(1).clone()
        rows = ((neuron >= start) & (neuron < start + value.shape[1])).nonzero()[:, 0]
        value[rows, neuron[rows] - start] = 0.0
        side = value.reshape(low.shape)
        found[relu] = (side, up) if sign > 0 else (low, side)
        start += value.shape[1]
    return found
