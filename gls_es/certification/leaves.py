"""Parts of a ball on which every ReLU is fixed: linear programs, whose float answers are never taken for proofs.

On such a part the network is affine in the pixels, so the least value of a goal is a linear program over the box, with
a constraint for each split. HiGHS (Huangfu & Hall 2018, through SciPy) solves it. Its multipliers, cut off at 0, are
the β of the backward pass, and the guarded bound with them is what may prove the goal: weak duality holds for any
β >= 0. Its minimiser is a candidate counterexample, to be run on the executor. An infeasible program gets multipliers
from "how far must the constraints be moved": they raise the bound without limit.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline, OutOfTime
from gls_es.bounds.curved import crooked
from gls_es.bounds.query import Query
from gls_es.certification.ascent import Ascent, ascend
from gls_es.certification.cells import Cell, cell
from gls_es.certification.dual import Balls, Goals, Layers
from gls_es.network.activations.table import curve
from gls_es.network.graph import Activation, ReLU
from gls_es.network.layers import propagate

ASCENT = Ascent(steps=40)
"""The ascent of parts that are no linear programs, since a bent curve cannot be split any further."""
Check = Callable[[int, Tensor], Tensor | None]
"""A confirmed counterexample of an image (its place in the batch) at or beside a float64 point, or None."""


@dataclass(frozen=True)
class Solution:
    """What is known of a fully split part.

    Attributes:
        goals: the part with the program's multipliers, None if there are none.
        counterexample: a confirmed one, None if the minimiser is none.
        reason: why the part is open if the multipliers do not prove it, None beside a counterexample.
    """

    goals: Goals | None
    counterexample: Tensor | None
    reason: str | None


@dataclass(frozen=True)
class LeafSolver:
    """Solves fully split parts of a batch's balls.

    Attributes:
        balls: the batch.
        lower: the balls' lower ends, (B, *input_shape), float64.
        upper: their upper ends.
        check: confirms counterexamples.
    """

    balls: Balls
    lower: Tensor
    upper: Tensor
    check: Check

    def solve(self, goal: Goals, *, deadline: Deadline = NEVER) -> Solution:
        """Multipliers or a counterexample for one goal on a part without unstable neurons, if there is time for it."""
        if _climbing(self.balls.proof, goal):
            climbed, _ = ascend(self.balls.lower_bounds, goal, ASCENT, deadline)  # no linear program
            return Solution(climbed, None, "activations")
        if importlib.util.find_spec("scipy") is None:
            return Solution(None, None, "solver")
        try:
            program = _program(self.balls, goal, self.lower, self.upper, deadline)
            if not program.finite:
                return Solution(None, None, "rounding")
            found = _minimum(program, deadline)
            if found is None:
                apart = _separation(program, deadline)
                return Solution(None if apart is None else _with_multipliers(goal, program, apart), None, "rounding")
        except OutOfTime:
            return Solution(None, None, "timeout")
        point = program.centre + torch.from_numpy(found[0]).reshape(program.centre.shape).to(program.centre)
        example = self.check(int(goal.image), point) if program.value(found[0]) <= 0 else None
        reason = None if example is not None else "rounding"
        return Solution(_with_multipliers(goal, program, found[1]), example, reason)


@dataclass(frozen=True)
class _Program:
    """min cost · d + constant over |d| <= radius with signs · d + offsets >= 0, d the pixels' distance from the centre.

    Attributes:
        centre: the ball's centre, (*input_shape), float64.
        radius: (n,).
        cost: (n,).
        constant: the goal at the centre.
        signs: σ times each split neuron's gradient, (m, n).
        offsets: σ times its value at the centre, (m,).
        places: the split neurons, as (ReLU, place in its flat value).
    """

    centre: Tensor
    radius: Any
    cost: Any
    constant: float
    signs: Any
    offsets: Any
    places: list[tuple[int, int]]

    @property
    def finite(self) -> bool:
        """Whether all of its numbers are; weights that are not, or overflow, make others."""
        table = (self.cost, self.signs, self.offsets, self.constant)
        return all(bool(np.isfinite(part).all()) for part in table)

    def value(self, distance: Any) -> float:
        """The goal at a point."""
        return float(self.cost @ distance) + self.constant


def _program(balls: Balls, goal: Goals, lower: Tensor, upper: Tensor, deadline: Deadline) -> _Program:
    image = int(goal.image)
    low, up = lower[image], upper[image]
    centre = ((low + up) / 2).requires_grad_()
    inputs, output = _affine_values(balls.proof, goal, centre)
    row = -balls.rows[image, int(goal.column)]
    wanted, places = [output @ row], []
    for relu, value in inputs.items():
        part = _part(balls.proof, goal, relu)
        sign = part.sign.flatten()
        missed = (value if part.point is None else value - part.point).flatten()
        for place in sign.nonzero()[:, 0].tolist():
            wanted.append(missed[place] * sign[place])
            places.append((relu, place))
    gradients = []
    for value in wanted:
        deadline.check()
        gradients.append(torch.autograd.grad(value, centre, retain_graph=True, materialize_grads=True)[0].flatten())
    table = torch.stack(gradients).cpu().numpy()
    offsets = torch.stack(wanted[1:]).detach().cpu().numpy() if places else table[1:, 0]
    radius = torch.maximum(up - centre, centre - low).detach().flatten().cpu().numpy()
    return _Program(centre.detach(), radius, table[0], float(wanted[0].detach()), table[1:], offsets, places)


def _part(query: Query, goal: Goals, index: int) -> Cell:
    """Where an activation's input lies on the part."""
    lower, upper = (end[0, goal.image[0]] for end in query.bounds[index])
    return cell(query.node(index), lower, upper, goal.signs[index][0])


def _climbing(query: Query, goal: Goals) -> bool:
    """Whether an activation other than ReLU is no line on the part, or split twice: multipliers are for one split."""
    if any(bool((goal.signs[index] > 2).any()) for index in goal.curved):
        return True
    parts = ((query.node(index), _part(query, goal, index)) for index in goal.curved)
    return any(bool(crooked(node, part.lower, part.upper).any()) for node, part in parts)


def _affine_values(query: Query, goal: Goals, x: Tensor) -> tuple[Layers, Tensor]:
    """Every activation's input and the logits at x, with the activations replaced by what they are on the part."""
    values: list[Tensor] = []
    inputs: Layers = {}
    for index, node in enumerate(query.graph.nodes):
        before = [values[i] for i in node.inputs]
        if not before:
            values.append(x[None, None])
        elif isinstance(node, ReLU):
            inputs[index] = before[0][0, 0]
            sign = goal.signs[index][0]
            active = (sign > 0) | ((sign == 0) & (query.bounds[index][0][0, goal.image[0]] >= 0))
            values.append(before[0] * active)
        elif isinstance(node, Activation):
            inputs[index] = before[0][0, 0]
            part, f = _part(query, goal, index), curve(node.kind, node.constants)
            middle = torch.lerp(part.lower, part.upper, 0.5)
            values.append(f.value(middle) + f.slope(middle) * (before[0] - middle))
        else:
            layer = query.layers[index]
            value = propagate(layer, node, before)
            values.append(value if layer is None or layer.bias is None else value + layer.bias)
    return inputs, values[-1][0, 0]


def _solved(deadline: Deadline, cost: Any, **program: Any) -> Any:
    """SciPy's answer to a linear program.

    Raises:
        OutOfTime: there was none in time.
    """
    from scipy.optimize import linprog

    deadline.check()
    options = {"time_limit": max(deadline.left, 1e-3)} if deadline.until < math.inf else {}
    result = linprog(cost, **program, method="highs", options=options)
    if result.status == 1:  # a limit was reached, and that of time is the only one
        raise OutOfTime
    return result


def _minimum(program: _Program, deadline: Deadline) -> tuple[Any, Any] | None:
    """Minimiser and multipliers, or None if there is no point."""
    bounds = np.column_stack([-program.radius, program.radius])
    result = _solved(deadline, program.cost, A_ub=-program.signs, b_ub=program.offsets, bounds=bounds)
    return (result.x, -result.ineqlin.marginals) if result.status == 0 else None


def _separation(program: _Program, deadline: Deadline) -> Any | None:
    """Multipliers that raise the goal's bound above 0 on a part without points, or None if that is too close."""
    count, pixels = program.signs.shape
    cost = np.append(np.zeros(pixels), 1.0)
    table = np.column_stack([-program.signs, -np.ones(count)])
    bounds = np.column_stack([np.append(-program.radius, 0.0), np.append(program.radius, np.inf)])
    result = _solved(deadline, cost, A_ub=table, b_ub=program.offsets, bounds=bounds)
    if result.status != 0 or not result.fun > 0:
        return None
    least = program.constant - float(np.abs(program.cost) @ program.radius)
    return -result.ineqlin.marginals * (2 * (1 + abs(least)) / result.fun)


def _with_multipliers(goal: Goals, program: _Program, found: Any) -> Goals:
    multipliers = {relu: torch.zeros_like(value, dtype=torch.float64) for relu, value in goal.multipliers.items()}
    for (relu, place), value in zip(program.places, found.tolist(), strict=True):
        multipliers[relu].view(-1)[place] = max(value, 0.0)
    return replace(goal, multipliers=multipliers)
