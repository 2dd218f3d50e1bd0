"""Whether a graph computes what its module was seen to compute, value by value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gls_es.network.evaluation import (
    agree,
    error_of,
    evaluate,
    evaluate_with_error,
    float64_tolerance,
    shift_size,
    value_of,
)
from gls_es.network.graph import Graph, Input, Node, Nonlinear
from gls_es.network.layers import Layer, materialise
from gls_es.network.merging import fused


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass of a module that was watched.

    Attributes:
        nodes: one for every operator; the last gives the logits.
        constants: what ``Constant`` nodes refer to, float64, by name.
        values: what the pass computed, (B, *shape), by node; those that are no operator's value are missing.
        params: the module's weights, (L,).
        buffers: gives the module's buffers by name.
        kept: the memory of the constants that it read, by address.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    values: dict[int, Tensor]
    params: Tensor
    buffers: Callable[[str], Tensor]
    kept: dict[int, Any]

    def buffer(self, name: str) -> Tensor:
        """A buffer or constant by name."""
        constant = self.constants.get(name)
        return self.buffers(name) if constant is None else constant


def unfaithful(run: Pass) -> str | None:
    """The first step whose value is not what its node makes of the values before it; None if all are.

    The graph as it is computed with, where layers are merged, is compared with the pass's result, too.

    Args:
        run: a pass in float64.
    """
    graph = Graph(run.nodes, len(run.params))
    layers = materialise(graph, run.params[None], run.buffer)
    values: dict[int, Tensor] = {}
    errors: dict[int, Tensor] = {}
    for index, node in enumerate(run.nodes):
        seen = run.values.get(index)
        if not isinstance(node, Input):
            inputs, before = [values[i] for i in node.inputs], [errors[i] for i in node.inputs]
            shift = shift_size(node, run.params, run.buffer)
            values[index] = value_of(node, layers[index], inputs)
            errors[index] = error_of(node, layers[index], inputs, before, float64_tolerance, shift)
        if seen is not None:
            if not isinstance(node, Input) and not bool(agree(values[index], seen[None], errors[index]).all()):
                return node.path
            values[index], errors[index] = seen[None], torch.zeros_like(seen[None])
    return None if _merged_agrees(run, graph, layers, values[graph.output]) else "its result"


def _merged_agrees(run: Pass, steps: Graph, layers: list[Layer | None], seen: Tensor) -> bool:
    x = run.values[0][None]
    _, error = evaluate_with_error(steps, layers, x, run.params, run.buffer)
    merged = fused(run.nodes, len(run.params))
    found = evaluate(merged, materialise(merged, run.params[None], run.buffer), x)
    both_lost = ~found.isfinite() & ~seen.isfinite()
    return bool((agree(found, seen, 4 * error) | both_lost).all())


_ROUNDING = 64 * torch.finfo(torch.float64).eps
"""Of the largest number: what the sums behind another one may leave of terms that cancel."""


def alike(one: Pass, other: Pass) -> bool:
    """Whether two passes in float64, all images of which are one, take the same nonlinear steps with the same values.

    Args:
        one: a pass.
        other: another one of the same module, on the same image.
    """
    steps = [[(at, node) for at, node in enumerate(run.nodes) if isinstance(node, Nonlinear)] for run in (one, other)]
    if [_kind(node) for _, node in steps[0]] != [_kind(node) for _, node in steps[1]]:
        return False
    ends = [(len(one.nodes) - 1, len(other.nodes) - 1)]
    ends += [pair for (_, a), (_, b) in zip(*steps, strict=True) for pair in zip(a.inputs, b.inputs, strict=True)]
    found = [(one.values.get(a), other.values.get(b)) for a, b in ends]
    return all(x is None or y is None or _near(x[0], y[0]) for x, y in found)


def _kind(node: Node) -> tuple[object, ...]:
    return (type(node), node.shape, getattr(node, "kind", None), getattr(node, "constants", None))


def _near(one: Tensor, other: Tensor) -> bool:
    """Up to rounding, number by number: a large one says nothing of a small one beside it."""
    if one.shape != other.shape:
        return False
    size = torch.maximum(one.abs(), other.abs())
    return bool(((one - other).abs() <= 1e-9 * size + _ROUNDING * (1 + size.max())).all())
