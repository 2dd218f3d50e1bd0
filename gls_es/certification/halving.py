"""Rule out cases on parts of boxes: what bounds leave open is halved until they decide, for networks of few inputs.

A part is done when every case has a row that is > 0 on it. Open parts are halved across the input with the largest
product of width and the open rows' gradient at the centre (the smear rule of interval branch and bound, Kearfott 1996),
depth first; the centres of parts are candidates for violations.
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
        seen = 0
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
            witness = self._centres(low, up, box)
            if witness is not None:
                return False, witness
            axis = self._axes(low, up, left)
            halves = _halved(low, up, axis)
            if halves is None:
                return False, None
            lower, upper = torch.cat([lower, halves[0]]), torch.cat([upper, halves[1]])
        return True, None

    def _centres(self, lower: Tensor, upper: Tensor, box: Boundary) -> Witness | None:
        ends = self.violations.group.shaped([box.points()])
        points = torch.clamp(((lower + upper) / 2).float(), *ends)
        with torch.no_grad():
            least = self.violations.excess(points).amin(dim=1)
        for index in (least <= 0).nonzero().flatten().tolist()[:3]:
            found = self.violations.confirmed(points[index], box)
            if found is not None:
                return found
        return None

    def _axes(self, lower: Tensor, upper: Tensor, left: Tensor) -> Tensor:
        """The flat index of the input to halve, (B,)."""
        centre = ((lower + upper) / 2).requires_grad_()
        rows = -self._exact.logits(centre)[:, 1:]
        largest = torch.stack([part.amax(dim=1) for part in self.violations.group.per_case(rows)], dim=1)
        (gradient,) = torch.autograd.grad((largest * left).sum(), centre)
        width = (upper - lower).flatten(1)
        smear = torch.nan_to_num(gradient.flatten(1).abs()) * width
        return torch.where(smear.amax(dim=1) > 0, smear.argmax(dim=1), width.argmax(dim=1))


def _halved(lower: Tensor, upper: Tensor, axis: Tensor) -> tuple[Tensor, Tensor] | None:
    """Both halves of every part; None where one cannot be halved any more."""
    low, up = lower.flatten(1), upper.flatten(1)
    rows = torch.arange(len(axis))
    middle = low[rows, axis] / 2 + up[rows, axis] / 2
    if not bool(((low[rows, axis] < middle) & (middle < up[rows, axis])).all()):
        return None
    first, second = up.clone(), low.clone()
    first[rows, axis] = middle
    second[rows, axis] = middle
    return torch.cat([low, second]).reshape(-1, *lower.shape[1:]), torch.cat([first, up]).reshape(-1, *lower.shape[1:])
