"""Rule out cases on parts of boxes: what bounds leave open is halved until they decide, for networks of few inputs.

A part is done when every case has a row that is > 0 on it. Open parts are halved across the input with the largest
product of width and the open rows' gradient at the centre (the smear rule of interval branch and bound, Kearfott 1996),
depth first. The centres of parts are candidates for violations, and so are the corners to which the gradients at the
centres lead, one for each open case. A part that is a single float64 number in every direction is set aside: nothing
more is learnt of it, but of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline, OutOfTime
from gls_es.basics.property import Boundary
from gls_es.bounds import Plan
from gls_es.certification.execution import Executor
from gls_es.certification.rounding import sound_margins
from gls_es.certification.violation import Group, Violations, Witness

_AT_ONCE = 128
MOST_PARTS = 500_000
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

    def run(self, box: Boundary) -> tuple[bool, Witness | None]:
        """Whether every case is ruled out on the box, and a violation if one was met."""
        try:
            return self._run(box)
        except OutOfTime:
            return False, None

    def _run(self, box: Boundary) -> tuple[bool, Witness | None]:
        deadline = self.violations.deadline
        lower, upper = self.violations.group.shaped([box.outward()])
        seen, aside = 0, 0
        while len(lower):
            deadline.check()
            if seen > MOST_PARTS:
                return False, None
            low, up = lower[-_AT_ONCE:], upper[-_AT_ONCE:]
            lower, upper = lower[:-_AT_ONCE], upper[:-_AT_ONCE]
            seen += len(low)
            group, kind = self.violations.group, self.execution
            left = open_cases(group, low, up, method="crown", execution=kind, deadline=deadline)
            parts = left.any(dim=1)
            low, up, left = low[parts], up[parts], left[parts]
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
            low, up = _halved(low, up, _axes(low, up, gradients, divisible), ~whole)
            lower, upper = torch.cat([lower, low]), torch.cat([upper, up])
            if bool(whole.any()):  # on with the largest parts, not with those beside what nothing is learnt of
                lower, upper = lower.flip(0), upper.flip(0)
        return aside == 0, None

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


def _axes(lower: Tensor, upper: Tensor, gradients: Tensor, divisible: Tensor) -> Tensor:
    """The input to halve, (B,): among those that can be."""
    width = (upper - lower).flatten(1).masked_fill(~divisible, -1.0)
    smear = gradients.sum(dim=0).abs() * width
    return torch.where(smear.amax(dim=1) > 0, smear.argmax(dim=1), width.argmax(dim=1))


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
