"""Cases that differ in their boxes and constants alone: their functions are bounded together, a batch of boxes at once.

Specifications that describe a function piece by piece (nn4sys of the competition) have thousands of boxes, each with
constants of its own: Σ c_k f_k <= d with few different c. A bound of Σ c_k f_k on a box rules out whatever d lies
below it, so that one network serves all boxes. With few inputs the boxes that are left are halved some times, and the
centres of their parts are tried as violations. What is open then is searched box by box as ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from gls_es.basics.deadline import NEVER, Deadline, OutOfTime
from gls_es.basics.property import Case, Numbers, Row
from gls_es.bounds import Plan
from gls_es.certification.execution import Executor
from gls_es.certification.halving import halves
from gls_es.certification.rounding import sound_margins
from gls_es.certification.rows import unscaled, with_rows
from gls_es.certification.violation import Group, Replay, Witness, confirmed
from gls_es.network import Network

MANY = 16
"""From so many boxes on functions are bounded together."""
MOST_FUNCTIONS = 64
DEPTH = 12
"""How often a box is halved."""
SHARES = (0.5, 0.25)
"""Of the time left, for bounds of whole boxes, then for halving: attacks and what else is searched get the rest."""
_AT_ONCE = 512

Function = tuple[Numbers, Numbers]
"""Coefficients of a row's outputs and inputs."""


@dataclass(frozen=True)
class Left:
    """What bounds of the functions leave.

    Attributes:
        cases: the cases that are not ruled out, in order.
        stage: what ruled out the last case, or found the violation; None if nothing did.
        witness: a violation, if one was met.
        asked: all boxes with the functions' network, which must agree with the module; None if nothing was bounded.
    """

    cases: list[Case]
    stage: str | None = None
    witness: Witness | None = None
    asked: Group | None = None


class Levels:
    """The search through one property's cases, with bounds that hold for the executed network.

    Args:
        module: the network, on the CPU, in the format of ``execution``.
        shape: of an input.
        execution: the arithmetic that the bounds cover.
        deadline: when bounds that are not begun are given up.
        replay: the executor that has to show a violation.
    """

    def __init__(
        self, module: nn.Module, shape: tuple[int, ...], execution: str, deadline: Deadline, replay: Replay
    ) -> None:
        self._module = module
        self._shape = shape
        self._execution = execution
        self._deadline = deadline
        self._replay = replay

    def run(self, cases: Sequence[Case], methods: Sequence[str], *, halve: bool) -> Left:
        """Rule out cases by bounds of their functions, if these are few and boxes many.

        Args:
            cases: what must not happen.
            methods: relaxations, cheapest first.
            halve: whether boxes are halved, with the last of them.
        """
        functions = list(dict.fromkeys(_function(row) for case in cases for row in case.rows))
        boxes = list(dict.fromkeys(case.box for case in cases))
        rows = [Row(outputs, Fraction(0), inputs) for outputs, inputs in functions]
        if len(boxes) < MANY or len(functions) > MOST_FUNCTIONS or not all(map(unscaled, rows)):
            return Left(list(cases))
        network = Network(with_rows(self._module, rows), self._shape)
        asked = Group(tuple((row,) for row in rows), network, tuple(boxes))
        self._cases, self._network = cases, network
        self._levels = _levels(cases, functions)
        self._executor = Executor(network, dtype=torch.float32, device=torch.device("cpu"))
        places = {box: place for place, box in enumerate(boxes)}
        boxed = torch.tensor([places[case.box] for case in cases])
        lower, upper = asked.shaped([box.outward() for box in boxes])
        left, stage, witness, soon = torch.arange(len(cases)), None, None, self._soon(SHARES[0])
        for method in methods:
            if not len(left):
                break
            stage = method
            left = self._open(left, boxed[left], (lower, upper), method, soon)
        if len(left) and halve:
            stage = "halving"
            left, witness = self._halved(_Parts.of(left, lower[boxed[left]], upper[boxed[left]]), methods[-1])
        return Left([cases[place] for place in left.tolist()], stage, witness, asked)

    def _soon(self, share: float) -> Deadline:
        return self._deadline if self._deadline == NEVER else Deadline.after(share * self._deadline.left)

    def _open(
        self, cases: Tensor, boxed: Tensor, ends: tuple[Tensor, Tensor], method: str, deadline: Deadline
    ) -> Tensor:
        """The cases that bounds on their boxes leave open, or that there was no time for."""
        left = []
        for part, places in zip(cases.split(_AT_ONCE), boxed.split(_AT_ONCE), strict=True):
            wanted, where = places.unique(return_inverse=True)
            try:
                bounds = self._bounds(ends[0][wanted], ends[1][wanted], method, deadline)[where]
            except OutOfTime:
                left.append(part)
            else:
                left.append(part[~self._ruled_out(part, bounds)])
        return torch.cat(left)

    def _bounds(self, lower: Tensor, upper: Tensor, method: str, deadline: Deadline) -> Tensor:
        """Lower bounds of all functions on boxes, (B, functions)."""
        deadline.check()
        plan = replace(Plan.default("cpu"), deadline=deadline)
        labels = torch.zeros(len(lower), dtype=torch.int64)
        return sound_margins(self._network, lower, upper, labels, method, execution=self._execution, plan=plan)

    def _ruled_out(self, cases: Tensor, bounds: Tensor) -> Tensor:
        """Whether a case's functions, (B,), can only lie above one of its levels, given lower bounds."""
        return (bounds.isfinite() & (bounds > self._levels[cases])).any(dim=1)

    def _halved(self, parts: _Parts, method: str) -> tuple[Tensor, Witness | None]:
        """The cases that are open on a part still, and a violation if one was met; depth first, so that cases end."""
        soon = self._soon(SHARES[1])
        given_up = torch.zeros(len(self._cases), dtype=torch.bool)
        while len(parts.case):
            size = _AT_ONCE // 2
            taken, parts = parts.at(slice(-size, None)), parts.at(slice(0, -size))
            witness = self._met(taken)
            if witness is not None:
                return taken.case.unique(), witness
            halves = taken.halved()
            try:
                closed = self._ruled_out(halves.case, self._bounds(halves.lower, halves.upper, method, soon))
            except OutOfTime:
                given_up[torch.cat([parts.case, taken.case])] = True
                break
            halves = halves.at(~closed)
            given_up[halves.case[halves.depth >= DEPTH]] = True
            parts = parts.joined(halves)
            parts = parts.at(~given_up[parts.case])
        return given_up.nonzero()[:, 0], None

    def _met(self, parts: _Parts) -> Witness | None:
        """A violation at a part's centre."""
        middle = (parts.lower / 2 + parts.upper / 2).float()
        levels = self._levels[parts.case]
        with torch.no_grad():
            values = -self._executor.logits(middle)[:, 1:]
        excess = torch.where(levels.isfinite(), values - levels, -math.inf).amax(dim=1)
        for place in (excess <= 0).nonzero().flatten().tolist()[:3]:
            case = self._cases[int(parts.case[place])]
            low, up = (end.reshape(self._shape) for end in case.box.points())
            found = confirmed(torch.clamp(middle[place], low, up), case.box, [case.rows], self._replay)
            if found is not None:
                return found
        return None


@dataclass(frozen=True)
class _Parts:
    """Parts of boxes.

    Attributes:
        case: numbers of their cases, (N,).
        lower: (N, *shape), float64.
        upper: likewise.
        whole: how wide the box was, (N, n).
        depth: how often it was halved, (N,).
    """

    case: Tensor
    lower: Tensor
    upper: Tensor
    whole: Tensor
    depth: Tensor

    @classmethod
    def of(cls, case: Tensor, lower: Tensor, upper: Tensor) -> _Parts:
        """Whole boxes."""
        return cls(case, lower, upper, (upper - lower).flatten(1), torch.zeros_like(case))

    def at(self, index: Tensor | slice) -> _Parts:
        """The parts at places, or where a mask holds."""
        return _Parts(*(value[index] for value in vars(self).values()))

    def joined(self, other: _Parts) -> _Parts:
        """These parts, then the others."""
        return _Parts(*map(torch.cat, zip(vars(self).values(), vars(other).values(), strict=True)))

    def halved(self) -> _Parts:
        """Both halves, along the input that is the widest against the width of its box."""
        width = (self.upper - self.lower).flatten(1)
        axis = (width / self.whole.clamp_min(torch.finfo(width.dtype).tiny)).argmax(dim=1)
        ends = halves(self.lower, self.upper, axis)
        return _Parts(self.case.repeat(2), *ends, self.whole.repeat(2, 1), self.depth.repeat(2) + 1)


def _function(row: Row) -> Function:
    return row.coefficients, row.inputs


def _levels(cases: Sequence[Case], functions: Sequence[Function]) -> Tensor:
    """What each function has to lie above to rule a case out, (cases, functions), float64; infinity where none does."""
    levels = torch.full((len(cases), len(functions)), math.inf, dtype=torch.float64)
    places = {function: place for place, function in enumerate(functions)}
    for number, case in enumerate(cases):
        for row in case.rows:
            place = places[_function(row)]
            levels[number, place] = min(float(levels[number, place]), _above(row))
    return levels


def _above(row: Row) -> float:
    """The largest number of float64 that fulfils the row: none above it does."""
    try:
        level = float(row.offset)
    except OverflowError:
        return math.inf
    beyond = Fraction(level) > row.offset or (row.strict and Fraction(level) == row.offset)
    return math.nextafter(level, -math.inf) if beyond else level
