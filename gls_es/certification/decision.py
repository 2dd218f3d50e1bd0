"""Whether a property of a network's outputs can be violated: an attack, bounds, and a search where they leave it open.

Cases of one box are bounded together: their rows become one network (:mod:`gls_es.certification.rows`). A case is ruled
out on a box if one of its rows has a positive lower bound there. What stays open is halved if there are few inputs.
Else neurons are split, and what that leaves is handed to ``certify`` if every case is one row.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn

from gls_es.basics.checks import seed_number
from gls_es.basics.deadline import NEVER, Deadline, OutOfTime
from gls_es.basics.modes import ordinary_modes
from gls_es.basics.property import Boundary, Case, Numbers, Property, Row
from gls_es.bounds import Plan
from gls_es.certification import inputs
from gls_es.certification.equality import LastLook
from gls_es.certification.execution import DTYPES, direct_sums, refuse_autocast
from gls_es.certification.halving import Halving, cases_left, open_cases
from gls_es.certification.levels import Levels
from gls_es.certification.neurons import NeuronSplits
from gls_es.certification.renewal import Bounds, crown_bounds
from gls_es.certification.rounding import sound_query
from gls_es.certification.rows import settled, with_rows
from gls_es.certification.splitting import certify_box
from gls_es.certification.violation import Group, Replay, Violations, Witness
from gls_es.errors import ConfigError, DataError
from gls_es.network import Network
from gls_es.network.copies import true_copy
from gls_es.network.entrance import check_module

DecisionName = Literal["sat", "unsat", "unknown", "timeout"]
METHODS = ("ibp", "crown-ibp", "crown", "best")
"""The bounds tried on whole boxes, cheapest first, where there are many inputs."""
METHODS_OF_FEW = ("ibp", "affine", "crown")
"""The same for few inputs: to halve a box gains more than a better bound of all of it."""
BEST_OVER_CROWN, BEST_SHARE = 6.0, 0.1
"""What ``best`` costs against ``crown``, and the share of the time left that it may cost: it gains little."""
FEW_TOGETHER, MANY_TOGETHER = ("ibp", "affine"), ("ibp", "crown-ibp", "crown")
"""The same for many boxes that are bounded together."""
FEW_INPUTS = 16
"""Up to so many inputs open boxes are halved."""
DEEP = 4
"""From so many layers of ReLUs on neurons are split with fresh bounds; with fewer, branch and bound loses little."""
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Decision:
    """What is known of a property.

    Attributes:
        result: "sat" (it can be violated), "unsat" (it cannot), "unknown", or "timeout".
        stage: what decided: "attack", the last relaxation that was needed, "halving", "splits", a stage of ``certify``;
            None if nothing did.
        inputs: for "sat", exact numbers in the box of a case, which float32 rounds to the input that was executed.
        outputs: for "sat", what the executor computed.
        seconds: how long it took.
    """

    result: DecisionName
    stage: str | None
    inputs: Numbers | None
    outputs: tuple[float, ...] | None
    seconds: float


@ordinary_modes()
def decide(
    module: nn.Module,
    input_shape: Sequence[int],
    prop: Property,
    *,
    execution: str = "float32",
    timeout: float | None = None,
    replay: Replay | None = None,
    seed: int = 0,
) -> Decision:
    """Decide whether an input of a case's box can have outputs that fulfil all of the case's rows.

    "unsat" covers all real inputs of the boxes, and the float32 numbers nearest to their ends, executed as
    ``gls_es.certify`` says. "sat" rests on an executed input alone, held against the exact property without tolerance.

    Args:
        module: the network, on the CPU.
        input_shape: without the batch axis.
        prop: the property.
        execution: "float32", "float64" or "real", see ``gls_es.certify``.
        timeout: seconds after which the search is given up; None: until there is nothing left to try.
        replay: the executor that a violation has to be seen on, from (B, *input_shape) to (B, K); by default the
            module in float32.
        seed: of the attack's random starts.

    Raises:
        ConfigError: an option makes no sense.
        DataError: the property speaks of other numbers of inputs or outputs than the network has.
        UnsupportedNetworkError: the module holds something without bounds.
    """
    begun = time.monotonic()
    deadline = NEVER if timeout is None else Deadline.after(inputs.check_seconds(timeout))
    if not isinstance(execution, str) or execution not in DTYPES:
        raise ConfigError(f"execution must be one of {', '.join(DTYPES)}, not {execution!r}")
    shape = _shape(input_shape)
    check_module(module)
    _check_kinds(prop, replay)
    seed = seed_number(seed)
    refuse_autocast()
    module = true_copy(module)  # formats and modes of the caller's are left alone
    module = _checked(module.float() if execution == "float32" else module, shape, prop)
    with direct_sums(torch.device("cpu")):
        result, stage, witness = _Search(module, shape, prop, execution, deadline, replay, seed).run()
    if prop.narrowed and result == "unsat":
        result, stage = "unknown", None
    point, outputs = witness or (None, None)
    return Decision(result, stage, point, outputs, time.monotonic() - begun)


Found = tuple[DecisionName, str | None, Witness | None]


class _Search:
    """One decision in the making."""

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, ...],
        prop: Property,
        execution: str,
        deadline: Deadline,
        replay: Replay | None,
        seed: int,
    ) -> None:
        self.execution = execution
        self.deadline = deadline
        self._few = math.prod(shape) <= FEW_INPUTS
        run = replay or _executed(module)
        self.open: list[Violations] = []
        self._asked: list[Group] = []
        self._known: dict[tuple[int, Boundary], Bounds] = {}
        largest = None if execution == "real" else torch.finfo(DTYPES[execution]).max
        self._cases = _possible(prop, largest)
        self._module, self._shape, self._replay, self._seed = module, shape, run, seed

    def run(self) -> Found:
        """Attack, bound, search; what bounds prove counts where graph and module agree."""
        result, stage, witness = self._decided()
        if result == "unsat" and not all(_agrees(group) for group in self._asked):
            return "unknown", None, None
        return result, stage, witness

    def _decided(self) -> Found:
        methods = METHODS_OF_FEW if self._few else METHODS
        levels = Levels(self._module, self._shape, self.execution, self.deadline, self._replay)
        left = levels.run(self._cases, FEW_TOGETHER if self._few else MANY_TOGETHER, halve=self._few)
        self._asked += [] if left.asked is None else [left.asked]
        if left.witness is not None or not left.cases:
            return "unsat" if left.witness is None else "sat", left.stage, left.witness
        for group in _groups(self._module, self._shape, left.cases):
            violations = Violations(group, self._replay, self._seed, self.deadline)
            self.open.append(violations)
            self._asked.append(violations.group)  # with all its boxes: bounds drop those that they prove from ``open``
            witness = violations.search()
            if witness is not None:
                return "sat", "attack", witness
            if self._late():
                return "timeout", None, None
        took = 0.0
        for method in methods:
            if method == "best" and BEST_OVER_CROWN * took > BEST_SHARE * self.deadline.left:
                continue
            begun = time.monotonic()
            try:
                self._bound(method)
            except OutOfTime:
                return "timeout", None, None
            took = time.monotonic() - begun
            if not self.open:
                return "unsat", method, None
        stage, undecided = None, False
        for violations in self.open:
            for box in violations.group.boxes:
                done, witness, stage = self._search(violations, box)
                if witness is not None:
                    return "sat", stage, witness
                if self._late() and not done:
                    return "timeout", None, None
                undecided |= not done  # another box may hold a violation all the same
        return ("unknown", None, None) if undecided else ("unsat", stage, None)

    def _late(self) -> bool:
        return self.deadline.late()

    def _bound(self, method: str) -> None:
        """Drop the boxes on which a bound rules out every case."""
        left = []
        for violations in self.open:
            group, boxes = violations.group, []
            for start in range(0, len(group.boxes), _AT_ONCE):
                chunk = group.boxes[start : start + _AT_ONCE]
                ends = group.shaped([box.outward() for box in chunk])
                if method == "crown" and self._few and len(group.boxes) == 1:  # halving goes on from its bounds
                    cases, self._known[id(group.network), chunk[0]] = self._kept(group, *ends)
                else:
                    cases = open_cases(group, *ends, method=method, execution=self.execution, deadline=self.deadline)
                boxes += [box for box, still in zip(chunk, cases.any(dim=1).tolist(), strict=True) if still]
            if boxes:
                rest = Group(group.rows, group.network, tuple(boxes))
                left.append(Violations(rest, violations.replay, violations.seed, self.deadline))
        self.open = left

    def _kept(self, group: Group, lower: Tensor, upper: Tensor) -> tuple[Tensor, Bounds]:
        """The cases that ``crown`` leaves open on boxes, and its bounds of all ReLUs' inputs."""
        plan = replace(Plan.default("cpu"), deadline=self.deadline)
        rows, bounds = crown_bounds(sound_query(group.network, lower, upper, execution=self.execution, plan=plan))
        return cases_left(group, rows), bounds

    def _search(self, violations: Violations, box: Boundary) -> tuple[bool, Witness | None, str | None]:
        if self._late():
            return False, None, None
        few = self._few
        single = all(len(rows) == 1 for rows in violations.group.rows)
        network = violations.group.network
        deep = len(network.relu_shapes) >= DEEP
        if network.graph.only_relus and not few and (deep or not single):  # signs split ReLUs alone
            done, witness = NeuronSplits(violations, self.execution, box).run()
            if done or witness is not None or self._late():
                return done, witness, "splits"
        if few or (not single and self.deadline != NEVER):
            done, witness = Halving(violations, self.execution).run(
                box, self._known.get((id(violations.group.network), box))
            )
            return done, witness, "halving"
        if single:
            left = None if self.deadline == NEVER else self.deadline.left
            return certify_box(violations, box, execution=self.execution, timeout=left)
        return False, None, None


def _shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ConfigError(f"input_shape must be an input's sizes without the batch axis, not {input_shape!r}")
    return shape


def _check_kinds(prop: Property, replay: Replay | None) -> None:
    if not isinstance(prop, Property):
        raise ConfigError(f"prop must be a gls_es.certification.Property, not {type(prop).__name__}")
    if not (replay is None or callable(replay)):
        raise ConfigError(f"replay must be something to call, not {type(replay).__name__}")


def _checked(module: nn.Module, shape: tuple[int, ...], prop: Property) -> nn.Module:
    """The module in evaluation mode, if it has as many inputs and outputs as the property speaks of."""
    module = module.eval()
    like = next((p for p in module.parameters()), torch.zeros(()))
    try:
        with torch.no_grad():
            outputs = module(torch.zeros(1, *shape, dtype=like.dtype, device=like.device)).numel()
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"the network does not take inputs of the shape {shape}: {' '.join(str(error).split())[:200]}"
        ) from error
    if (math.prod(shape), outputs) != (prop.inputs, prop.outputs):
        raise DataError(
            f"the specification speaks of {prop.inputs} inputs and {prop.outputs} outputs, the network has "
            f"{math.prod(shape)} and {outputs}"
        )
    return module


def _agrees(group: Group) -> bool:
    """Whether graph and module compute the same on the ends, the middle and corners of a group's boxes."""
    look = LastLook(group.network, dtype=torch.float64, device=torch.device("cpu"))
    lower, upper = group.shaped([box.points() for box in group.boxes])
    return bool(look.equal(lower, upper, (lower + upper) / 2, labels=None, seed=0).all())


def _executed(module: nn.Module) -> Replay:
    @torch.no_grad()
    def run(x: torch.Tensor) -> torch.Tensor:
        like = next((p for p in module.parameters()), x)
        outputs: torch.Tensor = module(x.to(like.dtype, copy=True))
        return outputs.flatten(1)

    return run


def _possible(prop: Property, largest: float | None) -> list[Case]:
    """The cases that finite outputs may fulfil, with the rows that they may or may not fulfil.

    ``largest`` is the largest finite output; None where there is no such limit.
    """
    kept = ((case, _open_rows(case.rows, largest)) for case in prop.cases)
    return [replace(case, rows=rows) for case, rows in kept if rows is not None]


def _groups(module: nn.Module, shape: tuple[int, ...], cases: Sequence[Case]) -> Iterator[Group]:
    """The cases, those of one box together, and boxes with the same rows together."""
    by_box: dict[Boundary, list[tuple[Row, ...]]] = {}
    for case in cases:
        by_box.setdefault(case.box, []).append(case.rows)
    by_rows: dict[tuple[tuple[Row, ...], ...], list[Boundary]] = {}
    for box, rows in by_box.items():
        by_rows.setdefault(tuple(dict.fromkeys(rows)), []).append(box)
    for alike, boxes in by_rows.items():
        network = Network(with_rows(module, [row for case in alike for row in case]), shape)
        yield Group(alike, network, tuple(boxes))


def _open_rows(rows: tuple[Row, ...], largest: float | None) -> tuple[Row, ...] | None:
    """The rows that finite outputs may or may not fulfil, at least one; None if one of them never holds."""
    said = [settled(row, largest) for row in rows]
    if False in said:
        return None
    kept = tuple(row for row, always in zip(rows, said, strict=True) if not always)
    return kept or (Row((Fraction(0),) * len(rows[0].coefficients), Fraction(1)),)
