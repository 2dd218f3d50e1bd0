"""Rule out cases on parts of boxes: what bounds leave open is halved until they decide, for networks of few inputs.

A part is done when every case has a row that is > 0 on it. Open parts are halved, depth first. Two rules take turns in
naming the input: the gradient at the centre times width (the smear rule of interval branch and bound, Kearfott 1996),
which leads to violations, but is blind where the gradient vanishes; and what moves the worst case's bound most: its
coefficient times width, and a share of what the bound lacks by width. Parts are
bounded by ``affine`` alone or by ``crown`` as well, whichever closed more of the box in a second of late; with many
inputs by ``crown``, and the first rule names the input. Where ``crown`` is dear, a part's bounds are kept, and its
halves begin with them, so that only neurons that are unstable on a half are bounded anew there. The centres of parts
are candidates for violations, and so are the corners to which the gradients at the centres lead, one for each open
case. A part that is a single float64 number in every direction is set aside: nothing more is learnt of it, but of the
others.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline, OutOfTime
from gls_es.basics.property import Boundary
from gls_es.bounds import Plan
from gls_es.bounds.affine import margins_and_reach, most_boxes
from gls_es.bounds.query import Query
from gls_es.certification.execution import Executor
from gls_es.certification.renewal import Bounds, narrowed, reach
from gls_es.certification.rounding import sound_margins, sound_query
from gls_es.certification.violation import Group, Violations, Witness

_AT_ONCE = 256
_SLICE = 0.5  # seconds of parts bounded at once
_KEPT = 0.7  # of what is known of a way, from one slice to the next
_MOST = 1e30  # a bound that is not finite lacks
_DEAR = 100  # as many times as much a part
_PATIENCE = 6  # slices after which a way is tried again
_WORTH_KEEPING = 0.02  # seconds of a part by ``crown`` from which on its bounds are kept for its halves
_MOST_KEPT = 1 << 29  # bytes of such bounds
MOST_PARTS = 2_000_000
"""Parts after which the search gives up."""
MOST_ASIDE = 256
"""Parts that cannot be divided after which the search gives up: where there are so many, there are more."""


def open_cases(
    group: Group, lower: Tensor, upper: Tensor, *, method: str, execution: str, deadline: Deadline = NEVER
) -> Tensor:
    """Which cases of a group a bound leaves open on boxes, (B, cases) bool.

    Args:
        group: the cases.
        lower: the boxes, (B, *input_shape), float64.
        upper: the same shape.
        method: a name from ``gls_es.bounds.METHODS``.
        execution: the arithmetic that the bounds cover.
        deadline: when bounds that are not begun are given up.

    Raises:
        OutOfTime: it has passed.
    """
    plan = replace(Plan.default("cpu"), deadline=deadline)
    labels = torch.zeros(len(lower), dtype=torch.int64)
    rows = sound_margins(group.network, lower, upper, labels, method, execution=execution, plan=plan)
    return cases_left(group, rows)


def cases_left(group: Group, rows: Tensor) -> Tensor:
    """Which cases no row rules out, (B, cases) bool, given proven lower bounds of all rows, (B, R)."""
    strict = torch.tensor([row.strict for case in group.rows for row in case])
    ruled_out = rows.isfinite() & ((rows > 0) | ((rows == 0) & strict))
    return ~torch.stack([part.any(dim=1) for part in group.per_case(ruled_out)], dim=1)


@dataclass
class _Pace:
    """What one way of bounding parts has cost and gained lately.

    Attributes:
        each: seconds a part; None before the first.
        gain: share of the box closed in a second.
        idle: slices of the other way since its last one.
    """

    each: float | None = None
    gain: float = 0.0
    idle: int = 0

    def count(self, seconds: float, parts: int, closed: float) -> None:
        """Take note of a slice."""
        seconds = max(seconds, 1e-6)
        kept = 0.0 if self.each is None else _KEPT
        self.each = kept * (self.each or 0.0) + (1 - kept) * seconds / parts
        self.gain = kept * self.gain + (1 - kept) * closed / seconds
        self.idle = 0


@dataclass(frozen=True)
class _Parts:
    """Open parts of a box.

    Attributes:
        lower: (N, *input_shape), float64.
        upper: the same shape.
        share: of the box, 2^-halvings, (N,).
        origin: where the bounds of what a part was halved from are kept, (N,); -1: nowhere.
    """

    lower: Tensor
    upper: Tensor
    share: Tensor
    origin: Tensor

    def __len__(self) -> int:
        return len(self.share)

    def at(self, index: Tensor | slice) -> _Parts:
        """The parts at the given places, or where a mask holds."""
        return _Parts(self.lower[index], self.upper[index], self.share[index], self.origin[index])

    def joined(self, other: _Parts) -> _Parts:
        """These parts, then the others."""
        mine, theirs = (vars(parts).values() for parts in (self, other))
        return _Parts(*(torch.cat(pair) for pair in zip(mine, theirs, strict=True)))


@dataclass
class Halving:
    """The search on one box.

    Attributes:
        violations: the group's search for violations, which also knows the deadline.
        execution: the arithmetic that the bounds cover.
    """

    violations: Violations
    execution: str

    def __post_init__(self) -> None:
        network = self.violations.group.network
        self._exact = Executor(network, dtype=torch.float64, device=torch.device("cpu"))
        self._room = most_boxes(network.graph)
        self._paces = {"affine": _Pace(), "crown": _Pace()} if self._room else {"crown": _Pace()}

    def run(self, box: Boundary, known: Bounds | None = None) -> tuple[bool, Witness | None]:
        """Whether every case is ruled out on the box, and a violation if one was met.

        Args:
            box: the box.
            known: bounds of all ReLUs' inputs on it, (1, *shape) each, if there are some.
        """
        self._kept: dict[int, Bounds] = {} if known is None else {0: known}
        self._named = len(self._kept)
        self._told = False  # whether affine functions have ruled out a part: before, their coefficients mean little
        try:
            return self._run(box)
        except OutOfTime:
            return False, None

    def _run(self, box: Boundary) -> tuple[bool, Witness | None]:
        deadline = self.violations.deadline
        lower, upper = self.violations.group.shaped([box.outward()])
        parts = _Parts(lower, upper, torch.ones(1, dtype=torch.float64), torch.full((1,), self._named - 1))
        self._whole = (upper - lower).flatten(1)
        seen, aside, turn = 0, 0, 0
        while len(parts):
            deadline.check()
            if seen > MOST_PARTS:
                return False, None
            way = self._way()
            size = self._size(way)
            taken, parts = parts.at(slice(-size, None)), parts.at(slice(0, -size))
            seen += len(taken)
            begun = time.monotonic()
            left, moves, origin = self._left(way, taken)
            open_still = left.any(dim=1)
            seconds = time.monotonic() - begun
            self._paces[way].count(seconds, len(taken), float(taken.share[~open_still].sum()))
            taken, left = replace(taken, origin=origin).at(open_still), left[open_still]
            if not len(taken):
                continue
            gradients = self._gradients(taken.lower, taken.upper, left)
            witness = self._met(taken.lower, taken.upper, gradients, box)
            if witness is not None:
                return False, witness
            divisible = _divisible(taken.lower, taken.upper)
            whole = ~divisible.any(dim=1)
            aside += int(whole.sum())
            if aside > MOST_ASIDE:
                return False, None
            smear = gradients.sum(dim=0).abs() * (taken.upper - taken.lower).flatten(1)
            turn += 1
            by_bound = turn % (2 if self._told else 3) == 0
            smear = moves[open_still] if by_bound and moves is not None else smear
            axis = _axes(taken.lower, taken.upper, smear, divisible)
            parts = parts.joined(_halved(taken.at(~whole), axis[~whole]))
            if self._kept:
                self._kept = {name: self._kept[name] for name in parts.origin.unique().tolist() if name in self._kept}
            if bool(whole.any()):  # on with the largest parts, not with those beside what nothing is learnt of
                parts = parts.at(torch.arange(len(parts) - 1, -1, -1))
        return aside == 0, None

    def _way(self) -> str:
        """How to bound the next parts: by what closed most in a second of late, now and then by ``crown``."""
        for pace in self._paces.values():
            pace.idle += 1
        known = []
        for way, pace in self._paces.items():
            if pace.each is None or pace.idle > _PATIENCE:
                return way
            known.append((pace.gain, way, pace.each))
        if all(gain == 0 for gain, _, _ in known) and len(known) == 2:  # the better bound, unless it is far dearer
            (_, cheap, little), (_, tight, much) = known
            return tight if much < _DEAR * little or self._paces[tight].idle > 1 else cheap
        return max(known)[1]

    def _size(self, way: str) -> int:
        """How many parts to bound at once: what takes a small share of the time left."""
        each = self._paces[way].each
        if each is None:
            return 1
        slice_ = min(_SLICE, 0.02 * max(self.violations.deadline.left, 0.0))
        most = min(_AT_ONCE, self._room) if self._room else _AT_ONCE
        return max(1, min(most, int(slice_ / max(each, 1e-6))))

    def _left(self, way: str, parts: _Parts) -> tuple[Tensor, Tensor | None, Tensor]:
        """Which cases are left open on parts, (B, cases), how far each input moves the worst case, (B, n), and origins.

        With few inputs affine functions come first: they are cheap, and say where to cut.
        """
        group, deadline, moves = self.violations.group, self.violations.deadline, None
        begun, query = time.monotonic(), None
        left, origin = torch.ones(len(parts), len(group.rows), dtype=torch.bool), parts.origin
        if self._room:
            with torch.no_grad():
                query = self._query(parts)
                rows, moved = margins_and_reach(query, torch.zeros(len(parts), dtype=torch.int64))
            left = cases_left(group, rows[0])
            self._told |= not bool(left.any(dim=1).all())
            least, worst = self._worst(torch.nan_to_num(rows[0], nan=-math.inf), left)
            moves = torch.nan_to_num(moved[0, torch.arange(len(parts)), :, worst])
            moves = moves + self._unexplained(parts, least)
        still = left.any(dim=1)
        if self._room and way == "crown":  # what it alone would have closed
            self._paces["affine"].count(time.monotonic() - begun, len(parts), float(parts.share[~still].sum()))
        if way == "crown" and bool(still.any()):
            if query is not None and moves is not None and group.network.graph.only_relus:
                origin = origin.clone()
                left[still], origin[still], moves[still] = self._narrowed(query, parts, left, moves[still])
            else:
                ends, kind = (parts.lower[still], parts.upper[still]), self.execution
                left[still] &= open_cases(group, *ends, method="crown", execution=kind, deadline=deadline)
        return left, moves, origin

    def _narrowed(self, query: Query, parts: _Parts, left: Tensor, reached: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`_left` says, for the parts with open cases once ``crown`` has bounded them.

        It begins with the bounds of ``affine``, which the query has, and of the parts that these were halved from.
        """
        chosen = left.any(dim=1).nonzero()[:, 0]
        parts, left = parts.at(chosen), left[chosen]
        bounds = {relu: (low[0, chosen], up[0, chosen]) for relu, (low, up) in query.bounds.items()}
        for place, origin in enumerate(parts.origin.tolist()):
            for relu, (low, up) in self._kept.get(origin, {}).items():
                torch.maximum(bounds[relu][0][place], low[0], out=bounds[relu][0][place])
                torch.minimum(bounds[relu][1][place], up[0], out=bounds[relu][1][place])
        begun = time.monotonic()
        query = self._query(parts)
        rows, bounds = narrowed(query, bounds)
        left = left & cases_left(self.violations.group, rows)
        origins = parts.origin.clone()
        if (time.monotonic() - begun) / len(parts) <= _WORTH_KEEPING:
            return left, origins, reached
        least, worst = self._worst(torch.nan_to_num(rows, nan=-math.inf), left)
        reached = reach(query, worst) + self._unexplained(parts, least)
        for place in left.any(dim=1).nonzero()[:, 0].tolist() if len(self._kept) * _bytes(bounds) < _MOST_KEPT else ():
            origins[place] = self._named
            self._kept[self._named] = {i: (a[place : place + 1], b[place : place + 1]) for i, (a, b) in bounds.items()}
            self._named += 1
        return left, origins, reached

    def _query(self, parts: _Parts) -> Query:
        plan = replace(Plan.default("cpu"), deadline=self.violations.deadline)
        return sound_query(self.violations.group.network, parts.lower, parts.upper, execution=self.execution, plan=plan)

    def _worst(self, rows: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """The best row of the case that is farthest from being ruled out: its bound and its number, (B,) each."""
        values, places, before = [], [], 0
        for part in self.violations.group.per_case(rows):
            value, place = part.max(dim=1)
            values.append(value)
            places.append(place + before)
            before += part.shape[1]
        least, case = torch.stack(values, dim=1).masked_fill(~left, math.inf).min(dim=1)
        return least, torch.stack(places, dim=1).gather(1, case[:, None])[:, 0]

    def _unexplained(self, parts: _Parts, least: Tensor) -> Tensor:
        """What a bound lacks, dealt to the inputs by how wide they still are, (B, n): coefficients tell of lines."""
        tiny = torch.finfo(parts.lower.dtype).tiny
        width = (parts.upper - parts.lower).flatten(1) / self._whole.clamp_min(tiny)
        lack = (-least).clamp(0.0, _MOST)[:, None]
        return lack * width / width.sum(dim=1, keepdim=True).clamp_min(tiny)

    def _gradients(self, lower: Tensor, upper: Tensor, left: Tensor) -> Tensor:
        """Of the largest row of each case at the centres, (cases, B, n), 0 where a case is not open."""
        centre = ((lower + upper) / 2).requires_grad_()
        rows = -self._exact.logits(centre)[:, 1:]
        found = []
        for part, still in zip(self.violations.group.per_case(rows), left.T, strict=True):
            (gradient,) = torch.autograd.grad((part.amax(dim=1) * still).sum(), centre, retain_graph=True)
            found.append(torch.nan_to_num(gradient.flatten(1)))
        return torch.stack(found)

    def _met(self, lower: Tensor, upper: Tensor, gradients: Tensor, box: Boundary) -> Witness | None:
        """A violation at a part's centre, or at the corner that is best for one of its cases to first order."""
        ends = self.violations.group.shaped([box.points()])
        middle, radius = ((lower + upper) / 2), ((upper - lower) / 2)
        corners = [middle - radius * gradient.sign().reshape(radius.shape) for gradient in gradients]
        points = torch.clamp(torch.cat([middle, *corners]).float(), *ends)
        with torch.no_grad():
            least = self.violations.excess(points).amin(dim=1)
        for index in (least <= 0).nonzero().flatten().tolist()[:3]:
            found = self.violations.confirmed(points[index], box)
            if found is not None:
                return found
        return None


def _divisible(lower: Tensor, upper: Tensor) -> Tensor:
    """Where float64 numbers lie between the ends, (B, n)."""
    middle = lower / 2 + upper / 2
    return ((lower < middle) & (middle < upper)).flatten(1)


def _axes(lower: Tensor, upper: Tensor, reach: Tensor, divisible: Tensor) -> Tensor:
    """The input to halve, (B,): the one that moves most, (B, n), of those that can be."""
    width = (upper - lower).flatten(1).masked_fill(~divisible, -1.0)
    reach = reach.masked_fill(~divisible, -1.0)
    return torch.where(reach.amax(dim=1) > 0, reach.argmax(dim=1), width.argmax(dim=1))


def halves(lower: Tensor, upper: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of all boxes' first halves along an input each, (B,), then of the second ones, (2 B, *input_shape)."""
    low, up = lower.flatten(1), upper.flatten(1)
    rows = torch.arange(len(axis))
    first, second = up.clone(), low.clone()
    first[rows, axis] = second[rows, axis] = low[rows, axis] / 2 + up[rows, axis] / 2
    shape = (-1, *lower.shape[1:])
    return torch.cat([low, second]).reshape(shape), torch.cat([first, up]).reshape(shape)


def _halved(parts: _Parts, axis: Tensor) -> _Parts:
    """Both halves of every part."""
    ends = halves(parts.lower, parts.upper, axis)
    return _Parts(*ends, parts.share.repeat(2) / 2, parts.origin.repeat(2))


def _bytes(bounds: Bounds) -> int:
    """What the bounds of one part take."""
    return sum(2 * low[0].numel() * low.element_size() for low, _ in bounds.values())
