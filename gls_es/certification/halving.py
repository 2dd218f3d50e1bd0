"""Rule out cases on parts of boxes: what bounds leave open is halved until they decide, for networks of few inputs.

A part is done when every case has a row that is > 0 on it. Open parts are halved, depth first. Two rules take turns in
naming the input: the gradient at the centre times width (the smear rule of interval branch and bound, Kearfott 1996),
which leads to violations, but is blind where the gradient vanishes; and what moves the worst case's bound most,
coefficient times width in ``affine``, and a share of what the bound lacks by width. Parts are bounded by ``affine``
alone or by ``crown`` as well, whichever closed more of the box in a second of late; with many inputs by ``crown``, and
the first rule names the input. The centres of parts are candidates for violations, and so are the corners to which the
gradients at the centres lead, one for each open case. A part that is a single float64 number in every direction is set
aside: nothing more is learnt of it, but of the others.
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
from gls_es.certification.execution import Executor
from gls_es.certification.rounding import sound_margins, sound_query
from gls_es.certification.violation import Group, Violations, Witness

_AT_ONCE = 256
_SLICE = 0.5  # seconds of parts bounded at once
_KEPT = 0.7  # of what is known of a way, from one slice to the next
_MOST = 1e30  # a bound that is not finite lacks
_DEAR = 50  # as many times as much a part
_PATIENCE = 6  # slices after which a way is tried again
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

    def run(self, box: Boundary) -> tuple[bool, Witness | None]:
        """Whether every case is ruled out on the box, and a violation if one was met."""
        try:
            return self._run(box)
        except OutOfTime:
            return False, None

    def _run(self, box: Boundary) -> tuple[bool, Witness | None]:
        deadline = self.violations.deadline
        lower, upper = self.violations.group.shaped([box.outward()])
        share = torch.ones(1, dtype=torch.float64)  # of the box, 2^-halvings
        self._whole = (upper - lower).flatten(1)
        seen, aside, by_bound = 0, 0, False
        while len(lower):
            deadline.check()
            if seen > MOST_PARTS:
                return False, None
            way = self._way()
            size = self._size(way)
            low, up, part = lower[-size:], upper[-size:], share[-size:]
            lower, upper, share = lower[:-size], upper[:-size], share[:-size]
            seen += len(low)
            begun = time.monotonic()
            left, reach = self._left(way, low, up)
            parts = left.any(dim=1)
            self._paces[way].count(time.monotonic() - begun, len(low), float(part[~parts].sum()))
            low, up, left, part = low[parts], up[parts], left[parts], part[parts]
            if not len(low):
                continue
            gradients = self._gradients(low, up, left)
            witness = self._met(low, up, gradients, box)
            if witness is not None:
                return False, witness
            divisible = _divisible(low, up)
            whole = ~divisible.any(dim=1)
            aside += int(whole.sum())
            if aside > MOST_ASIDE:
                return False, None
            smear = gradients.sum(dim=0).abs() * (up - low).flatten(1)
            by_bound = not by_bound and reach is not None
            smear = reach[parts] if by_bound and reach is not None else smear
            low, up = _halved(low, up, _axes(low, up, smear, divisible), ~whole)
            lower, upper = torch.cat([lower, low]), torch.cat([upper, up])
            share = torch.cat([share, part[~whole].repeat(2) / 2])
            if bool(whole.any()):  # on with the largest parts, not with those beside what nothing is learnt of
                lower, upper, share = lower.flip(0), upper.flip(0), share.flip(0)
        return aside == 0, None

    def _way(self) -> str:
        """How to bound the next parts: by what closed most in a second of late, now and then by the other."""
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

    def _left(self, way: str, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor | None]:
        """Which cases are left open on parts, (B, cases), and how far each input moves the worst case, (B, n).

        With few inputs affine functions come first: they are cheap, and say where to cut.
        """
        group, deadline, reach = self.violations.group, self.violations.deadline, None
        left = torch.ones(len(lower), len(group.rows), dtype=torch.bool)
        if self._room:
            plan = replace(Plan.default("cpu"), deadline=deadline)
            with torch.no_grad():
                query = sound_query(group.network, lower, upper, execution=self.execution, plan=plan)
                rows, moved = margins_and_reach(query, torch.zeros(len(lower), dtype=torch.int64))
            left = cases_left(group, rows[0])
            least, worst = self._worst(torch.nan_to_num(rows[0], nan=-math.inf), left)
            reach = torch.nan_to_num(moved[0, torch.arange(len(lower)), :, worst])
            reach = reach + self._unexplained(lower, upper, least)
        parts = left.any(dim=1)
        if way == "crown" and bool(parts.any()):
            ends, kind = (lower[parts], upper[parts]), self.execution
            left[parts] &= open_cases(group, *ends, method="crown", execution=kind, deadline=deadline)
        return left, reach

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

    def _unexplained(self, lower: Tensor, upper: Tensor, least: Tensor) -> Tensor:
        """What a bound lacks, dealt to the inputs by how wide they still are, (B, n): coefficients tell of lines."""
        width = (upper - lower).flatten(1) / self._whole.clamp_min(torch.finfo(lower.dtype).tiny)
        lack = (-least).clamp(0.0, _MOST)[:, None]
        return lack * width / width.sum(dim=1, keepdim=True).clamp_min(torch.finfo(lower.dtype).tiny)

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


def _halved(lower: Tensor, upper: Tensor, axis: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of every part that is wanted, (B,) bool."""
    low, up, axis = lower[wanted].flatten(1), upper[wanted].flatten(1), axis[wanted]
    rows = torch.arange(len(axis))
    middle = low[rows, axis] / 2 + up[rows, axis] / 2
    first, second = up.clone(), low.clone()
    first[rows, axis] = middle
    second[rows, axis] = middle
    shape = (-1, *lower.shape[1:])
    return torch.cat([low, second]).reshape(shape), torch.cat([first, up]).reshape(shape)
