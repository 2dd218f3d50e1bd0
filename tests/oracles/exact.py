"""Exact minima of margins for tiny networks, twice over (cells of the ReLU patterns, MILP), and the triangle LP.

Every value is written as an affine expression in the variables v = (pixels, outputs of the unstable ReLUs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from tests.oracles.dense import Array, Box, Node, _size


@dataclass(frozen=True)
class Encoding:
    """Output = M v + m; unstable ReLU i: output v[index[i]], input rows[i] @ v + constants[i] in [low[i], high[i]]."""

    M: Array
    m: Array
    index: list[int]
    rows: list[Array]
    constants: list[float]
    low: list[float]
    high: list[float]
    variables: int


def encode(nodes: list[Node], box: Box, bounds: dict[int, Box]) -> Encoding:
    """Affine expressions of a network whose ReLU inputs lie in ``bounds`` (by index of the ReLU node)."""
    n = box[0].size
    unstable = {i: [j for j in range(len(lo)) if lo[j] < 0 < hi[j]] for i, (lo, hi) in bounds.items()}
    variables = n + sum(map(len, unstable.values()))
    index: list[int] = []
    rows: list[Array] = []
    constants: list[float] = []
    low: list[float] = []
    high: list[float] = []
    values: list[tuple[Array, Array]] = []
    for i, node in enumerate(nodes):
        ins = [values[j] for j in node.inputs]
        if node.kind == "input":
            values.append((np.eye(n, variables), np.zeros(n)))
        elif node.kind == "affine":
            values.append((node.W @ ins[0][0], node.W @ ins[0][1] + node.b))
        elif node.kind == "add":
            values.append((sum(M for M, _ in ins), sum(m for _, m in ins)))
        elif node.kind == "reshape":
            values.append(ins[0])
        else:
            M, m = ins[0][0].copy(), ins[0][1].copy()
            lo, hi = bounds[i]
            for j in range(_size(nodes[node.inputs[0]])):
                if j in unstable[i]:
                    index.append(n + len(index))
                    rows.append(M[j].copy())
                    constants.append(m[j])
                    low.append(lo[j])
                    high.append(hi[j])
                    M[j], m[j] = np.eye(variables)[index[-1]], 0.0
                elif hi[j] <= 0:
                    M[j], m[j] = 0.0, 0.0
            values.append((M, m))
    return Encoding(*values[-1], index, rows, constants, low, high, variables)


def _variable_box(e: Encoding, box: Box) -> tuple[Array, Array]:
    n = box[0].size
    lower, upper = np.zeros(e.variables), np.full(e.variables, np.inf)
    lower[:n], upper[:n] = box
    for k, hi in zip(e.index, e.high, strict=True):
        upper[k] = hi
    return lower, upper


def triangle_minimum(nodes: list[Node], box: Box, bounds: dict[int, Box], c: Array) -> float:
    """Minimum of c @ output over the triangle relaxation with the given ReLU input bounds."""
    e = encode(nodes, box, bounds)
    A, b = [], []
    for k, row, constant, lo, hi in zip(e.index, e.rows, e.constants, e.low, e.high, strict=True):
        unit = np.eye(e.variables)[k]
        s = hi / (hi - lo)
        A += [row - unit, unit - s * row]  # y >= z, y <= s (z - lo)
        b += [-constant, s * (constant - lo)]
    lower, upper = _variable_box(e, box)
    result = linprog(
        c @ e.M, A_ub=np.array(A) if A else None, b_ub=np.array(b) if b else None,
        bounds=np.column_stack([lower, upper]), method="highs",
    )  # fmt: skip
    assert result.success, result.message
    return result.fun + c @ e.m


def milp_minimum(nodes: list[Node], box: Box, bounds: dict[int, Box], c: Array) -> float:
    """Exact minimum of c @ output over the box, by big-M with the given ReLU input bounds."""
    e = encode(nodes, box, bounds)
    count = len(e.index)
    A, b = [], []
    for i, (k, row, constant, lo, hi) in enumerate(zip(e.index, e.rows, e.constants, e.low, e.high, strict=True)):
        unit, binary = np.eye(e.variables)[k], np.eye(count)[i]
        A += [
            np.append(row - unit, 0 * binary),  # y >= z
            np.append(unit - row, -lo * binary),  # y <= z - lo (1 - δ)
            np.append(unit, -hi * binary),  # y <= hi δ
        ]
        b += [-constant, constant - lo, 0.0]
    lower, upper = _variable_box(e, box)
    result = milp(
        np.append(c @ e.M, np.zeros(count)),
        integrality=np.append(np.zeros(e.variables), np.ones(count)),
        bounds=Bounds(np.append(lower, np.zeros(count)), np.append(upper, np.ones(count))),
        constraints=LinearConstraint(np.array(A), -np.inf, np.array(b)) if A else (),
        options={"mip_rel_gap": 0.0},
    )
    assert result.success, result.message
    return result.fun + c @ e.m


def cell_minimum(nodes: list[Node], box: Box, bounds: dict[int, Box], c: Array) -> float:
    """Exact minimum of c @ output by visiting every nonempty cell of the ReLU patterns: one LP a cell."""
    e = encode(nodes, box, bounds)
    n = box[0].size
    pixel_box = np.column_stack(box)
    best = np.inf

    def visit(i: int, values: list[tuple[Array, float]], A: list[Array], b: list[float]) -> None:
        """``values`` are the pixel expressions of the ReLUs decided so far; A x <= b is their cell."""
        nonlocal best
        M = np.eye(e.variables, n)
        m = np.zeros(e.variables)
        for k, (row, constant) in zip(e.index, values, strict=False):
            M[k], m[k] = row, constant
        last = i == len(e.index)
        objective = c @ e.M @ M if last else np.zeros(n)
        constraints = (np.array(A), np.array(b)) if A else (None, None)
        result = linprog(objective, A_ub=constraints[0], b_ub=constraints[1], bounds=pixel_box, method="highs")
        if not result.success:
            return
        if last:
            best = min(best, result.fun + c @ (e.M @ m + e.m))
            return
        row, constant = e.rows[i] @ M, e.rows[i] @ m + e.constants[i]
        visit(i + 1, [*values, (row, constant)], [*A, -row], [*b, constant])
        visit(i + 1, [*values, (np.zeros(n), 0.0)], [*A, row], [*b, -constant])

    visit(0, [], [], [])
    return best
