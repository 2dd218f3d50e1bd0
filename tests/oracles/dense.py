"""Reference bounds in float64 numpy: one member, one image, explicit matrices, no tricks.

A zoo network becomes a list of nodes; the matrix of an affine node is found by probing (the piece applied to the basis
vectors). The margins y - j, j ascending, are C; for intervals and zonotopes C is folded into the last affine node that
mixes values (through a trailing sum into each summand); consecutive affine nodes are propagated one after the other.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles.dag import Dag

Array = np.ndarray
Box = tuple[Array, Array]

SLOPES = {"crown": "adaptive", "deeppoly": "adaptive", "crown-same": "same", "crown-zero": "zero", "crown-one": "one"}
METHODS = ("ibp", "hbox", "affine", "deepz", "crown-ibp", *SLOPES, "crown-intersect", "crown-unstable")


@dataclass(frozen=True)
class Node:
    """A node of the flattened network: W and b for affine nodes; shape without the batch."""

    kind: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    W: Array | None = None
    b: Array | None = None


@dataclass(frozen=True)
class Reference:
    """Bounds of one member on one image, and how far every choice of a slope was from flipping."""

    margins: Array
    preactivations: list[Box]
    tie: float


def member(module: nn.Module, vector: Tensor | None) -> nn.Module:
    """A float64 eval-mode copy that holds the given parameters."""
    module = copy.deepcopy(module).double().eval()
    if vector is not None:
        nn.utils.vector_to_parameters(vector.detach().double(), module.parameters())
    return module


def dense_nodes(module: nn.Module, vector: Tensor | None, input_shape: tuple[int, ...]) -> list[Node]:
    """The nodes of a zoo network up to its output, with explicit matrices."""
    module = member(module, vector)
    dag = Dag()
    output = module.dag(dag)
    assert output == len(dag.steps) - 1
    nodes: list[Node] = []
    for step in dag.steps:
        shape = input_shape if step.kind == "input" else nodes[step.inputs[0]].shape
        W = b = None
        if step.fn is not None:
            size = int(np.prod(shape))
            probes = torch.cat([torch.zeros(1, size), torch.eye(size)]).double().reshape(size + 1, *shape)
            with torch.no_grad():
                y = step.fn(probes)
            shape = tuple(y.shape[1:])
            if step.kind == "affine":
                flat = y.reshape(size + 1, -1).numpy()
                b, W = flat[0], (flat[1:] - flat[0]).T.copy()
        nodes.append(Node(step.kind, step.inputs, shape, W, b))
    return nodes


def margin_matrix(classes: int, label: int) -> Array:
    """Rows e_y - e_j, j the other classes ascending."""
    identity = np.eye(classes)
    return np.stack([identity[label] - identity[j] for j in range(classes) if j != label])


# ---------------------------------------------------------------------------------------------------------- forward


def _size(node: Node) -> int:
    return int(np.prod(node.shape))


def forward_state(method: str, nodes: list[Node], lower: Array, upper: Array, label: int) -> Reference:
    """Interval ("ibp"), hybrid box ("hbox"), affine form ("affine") or zonotope ("deepz") propagation.

    The state of a node is (head, beta, E): the values head ± (beta + Σ_e |E_e|), E one column per error symbol.
    """
    n = lower.size
    pixels = np.zeros((n, 0)) if method == "ibp" else np.diag((upper - lower) / 2)
    beta = (upper - lower) / 2 if method == "ibp" else np.zeros(n)
    states: list[tuple[Array, Array, Array]] = []
    preactivations: list[Box] = []
    ties = [np.inf]
    symbols = n  # every error symbol of the network has a column of its own, parallel branches included
    for node in nodes:
        ins = [states[i] for i in node.inputs]
        if node.kind == "input":
            states.append(((lower + upper) / 2, beta, pixels))
        elif node.kind == "affine":
            states.append(_affine(node.W, node.b, ins[0]))
        elif node.kind == "add":
            states.append(_sum(ins))
        elif node.kind == "reshape":
            states.append(ins[0])
        else:
            preactivations.append(_concrete(ins[0]))
            ties.append(_between_enclosures(ins[0]) if method == "affine" else np.inf)
            states.append(_relu(method, ins[0], symbols))
            symbols = max(symbols, states[-1][2].shape[1])
    C = margin_matrix(_size(nodes[-1]), label)
    final = _fold(nodes, states, len(nodes) - 1, C)
    return Reference(_concrete(final)[0], preactivations, min(_jump(method, preactivations), *ties))


def _affine(W: Array, b: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    head, beta, E = state
    return W @ head + b, np.abs(W) @ beta, W @ E


def _sum(states: list[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    width = max(E.shape[1] for _, _, E in states)
    return sum(s[0] for s in states), sum(s[1] for s in states), sum(_padded(E, width) for _, _, E in states)


def _padded(E: Array, width: int) -> Array:
    return np.pad(E, ((0, 0), (0, width - E.shape[1])))


def _concrete(state: tuple[Array, Array, Array]) -> Box:
    head, beta, E = state
    radius = beta + np.abs(E).sum(1)
    return head - radius, head + radius


def _relu(method: str, state: tuple[Array, Array, Array], symbols: int) -> tuple[Array, Array, Array]:
    lower, upper = _concrete(state)
    head, beta, E = (a.copy() for a in state)
    fresh = []
    for j, (lo, hi) in enumerate(zip(lower, upper, strict=True)):
        if lo >= 0:
            continue
        if hi <= 0:
            head[j], beta[j], E[j] = 0, 0, 0
        elif method in ("ibp", "hbox") or (method == "affine" and beta[j] > hi / 2):
            head[j], beta[j], E[j] = hi / 2, hi / 2, 0
        else:
            s = hi / (hi - lo)
            mu = -s * lo / 2
            head[j], E[j] = s * head[j] + mu, s * E[j]
            if method == "affine":
                beta[j] = s * beta[j] + mu
            else:
                fresh.append(mu * np.eye(len(head))[j])
    if fresh:
        E = np.column_stack([_padded(E, symbols), *fresh])
    return head, beta, E


def _fold(nodes: list[Node], states: list[tuple[Array, Array, Array]], k: int, C: Array) -> tuple[Array, Array, Array]:
    node = nodes[k]
    if node.kind == "reshape":
        return _fold(nodes, states, node.inputs[0], C)
    if node.kind == "add":
        return _sum([_fold(nodes, states, i, C) for i in node.inputs])
    if node.kind == "affine" and _elementwise(node.W):
        head, beta, E = _fold(nodes, states, node.inputs[0], C @ node.W)
        return head + C @ node.b, beta, E
    if node.kind == "affine":
        return _affine(C @ node.W, C @ node.b, states[node.inputs[0]])
    return _affine(C, np.zeros(len(C)), states[k])


def _elementwise(W: Array) -> bool:
    """BatchNorm and the like mix nothing: C goes on to the layer before."""
    return W.shape[0] == W.shape[1] and not (W - np.diag(np.diag(W))).any()


def _between_enclosures(state: tuple[Array, Array, Array]) -> float:
    """How far an unstable neuron's box is from half of its upper end, where lines give way to a fresh interval.

    Fifty times that: a box sums positive numbers, so float32 is off by about 1e-6 of it, whatever cancels elsewhere.
    """
    lo, hi = _concrete(state)
    unstable = (lo < 0) & (hi > 0)
    return 50 * np.abs(state[1] - hi / 2)[unstable].min(initial=np.inf)


def _jump(method: str, preactivations: list[Box]) -> float:
    """Only the hybrid box jumps: where lo crosses 0 from above, its pixels are dropped.

    A lower end that is exactly 0 is a fresh interval [0, u] or a black pixel's, and 0 in every arithmetic.
    """
    if method != "hbox":
        return np.inf
    return min((np.abs(lo[(hi > 0) & (lo != 0)]).min(initial=np.inf) for lo, hi in preactivations), default=np.inf)


# --------------------------------------------------------------------------------------------------------- backward


def relaxation(lo: Array, hi: Array, rule: str) -> tuple[Array, Array, Array]:
    """Per neuron: slope of the lower line, slope of the upper line, intercept of the upper line."""
    low, high, intercept = np.zeros_like(lo), np.zeros_like(lo), np.zeros_like(lo)
    for j in range(len(lo)):
        if lo[j] >= 0:
            low[j] = high[j] = 1
        elif hi[j] > 0:
            s = hi[j] / (hi[j] - lo[j])
            high[j], intercept[j] = s, -s * lo[j]
            low[j] = {"adaptive": float(hi[j] > -lo[j]), "same": s, "zero": 0.0, "one": 1.0}[rule]
    return low, high, intercept


def backward(nodes: list[Node], k: int, A: Array, box: Box, bounds: dict[int, Box], rule: str) -> Array:
    """Lower bounds of A @ (value of node k) over the box: coefficients carried back to the input.

    ``bounds`` maps the index of each ReLU node to the bounds of its input.
    """
    coefficients = {k: A}
    constant = np.zeros(len(A))
    for i in range(k, 0, -1):
        if i not in coefficients:
            continue
        node, A = nodes[i], coefficients.pop(i)
        if node.kind == "affine":
            constant = constant + A @ node.b
            A = A @ node.W
        elif node.kind == "relu":
            low, high, intercept = relaxation(*bounds[i], rule)
            positive, negative = np.maximum(A, 0), np.minimum(A, 0)
            constant = constant + negative @ intercept
            A = positive * low + negative * high
        for j in node.inputs:
            coefficients[j] = coefficients[j] + A if j in coefficients else A
    A = coefficients.get(0, np.zeros((len(A), box[0].size)))
    return constant + np.maximum(A, 0) @ box[0] + np.minimum(A, 0) @ box[1]


def backward_bounds(nodes: list[Node], box: Box, rule: str) -> dict[int, Box]:
    """Bounds of every ReLU's input, each by its own backward pass over all its neurons."""
    bounds: dict[int, Box] = {}
    for i, node in enumerate(nodes):
        if node.kind == "relu":
            k = node.inputs[0]
            identity = np.eye(_size(nodes[k]))
            lo = backward(nodes, k, identity, box, bounds, rule)
            hi = -backward(nodes, k, -identity, box, bounds, rule)
            bounds[i] = (lo, hi)
    return bounds


def intersected(nodes: list[Node], box: Box, *, every: bool) -> tuple[dict[int, Box], float]:
    """Backward passes intersected with intervals, ReLU by ReLU; of every neuron, or of those intervals leave unstable.

    Returns the bounds, and how far the intervals that decide are from another decision. (Ends that are exactly 0 are 0
    in every arithmetic: a rectified value, a black pixel's.)
    """
    bounds: dict[int, Box] = {}
    intervals: list[Box] = []
    gap = np.inf
    for i, node in enumerate(nodes):
        if node.kind == "relu":
            k = node.inputs[0]
            lo, hi = intervals[k]
            identity = np.eye(len(lo))
            below = np.maximum(lo, backward(nodes, k, identity, box, bounds, "adaptive"))
            above = np.minimum(hi, -backward(nodes, k, -identity, box, bounds, "adaptive"))
            chosen = (lo < 0) & (hi > 0) | every
            bounds[i] = np.where(chosen, below, lo), np.where(chosen, above, hi)
            if not every:
                ends = np.abs(np.concatenate([lo[hi > 0], hi[lo < 0]]))
                gap = min(gap, ends[ends > 0].min(initial=np.inf))
        intervals.append(_interval(nodes, i, intervals, box, bounds))
    return bounds, gap


def _interval(nodes: list[Node], i: int, before: list[Box], box: Box, bounds: dict[int, Box]) -> Box:
    """The interval of node i, from the bounds of the ReLUs and the intervals of the nodes before it."""
    node = nodes[i]
    if node.kind == "input":
        return box
    if node.kind == "relu":
        lo, hi = bounds[i]
        return np.maximum(lo, 0), np.maximum(hi, 0)
    lo, hi = (sum(before[j][side] for j in node.inputs) for side in (0, 1))
    if node.kind != "affine":
        return lo, hi
    positive, negative = np.maximum(node.W, 0), np.minimum(node.W, 0)
    return positive @ lo + negative @ hi + node.b, positive @ hi + negative @ lo + node.b


def _interval_margins(nodes: list[Node], box: Box, bounds: dict[int, Box], C: Array) -> Array:
    """Lower bounds of C times the output by intervals, C folded into the last affine node that mixes values."""
    intervals: list[Box] = []
    for i in range(len(nodes)):
        intervals.append(_interval(nodes, i, intervals, box, bounds))
    states = [((lo + hi) / 2, (hi - lo) / 2, np.zeros((len(lo), 0))) for lo, hi in intervals]
    return _concrete(_fold(nodes, states, len(nodes) - 1, C))[0]


def _tie(bounds: dict[int, Box], rule: str) -> float:
    """Distance of the lower slopes from a jump: adaptive at u = -l, zero at l = 0, one at u = 0."""

    def gaps(lo: Array, hi: Array) -> Array:
        if rule == "adaptive":
            return np.abs(lo + hi)[(lo < 0) & (hi > 0)]
        return {"zero": np.abs(lo)[hi > 0], "one": np.abs(hi)[lo < 0], "same": np.array([])}[rule]

    return min((gaps(*box).min(initial=np.inf) for box in bounds.values()), default=np.inf)


def reference(method: str, nodes: list[Node], lower: Tensor, upper: Tensor, label: int) -> Reference:
    """Reference bounds of one network on one box (lower and upper without a batch axis)."""
    lo, hi = (t.detach().double().numpy().ravel() for t in (lower, upper))
    if method in ("ibp", "hbox", "affine", "deepz"):
        return forward_state(method, nodes, lo, hi, label)
    gap = np.inf
    if method == "crown-ibp":
        intervals = forward_state("ibp", nodes, lo, hi, label).preactivations
        relus = [i for i, node in enumerate(nodes) if node.kind == "relu"]
        rule, bounds = "adaptive", dict(zip(relus, intervals, strict=True))
    elif method in ("crown-intersect", "crown-unstable"):
        rule = "adaptive"
        bounds, gap = intersected(nodes, (lo, hi), every=method == "crown-intersect")
    else:
        rule = SLOPES[method]
        bounds = backward_bounds(nodes, (lo, hi), rule)
    C = margin_matrix(_size(nodes[-1]), label)
    margins = backward(nodes, len(nodes) - 1, C, (lo, hi), bounds, rule)
    if method in ("crown-intersect", "crown-unstable"):
        margins = np.maximum(margins, _interval_margins(nodes, (lo, hi), bounds, C))
    return Reference(margins, list(bounds.values()), min(gap, _tie(bounds, rule)))
