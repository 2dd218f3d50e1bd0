"""Values of a graph's nodes, and how far rounding may have moved them in whoever computes the same.

A sum of n products that is computed in a format with unit roundoff u, in any order, differs from the exact one by at
most about n u times the sum of the absolute values (Higham 2002, section 3.1). So two programs agree if their results
differ by no more than a few times that, entry by entry; the sizes of other entries do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gls_es.network.activations.table import curve
from gls_es.network.graph import Activation, BatchNorm, Graph, Input, Node, ReLU, Scale
from gls_es.network.layers import Layer, Selection, propagate

Tolerance = Callable[[int], float]
"""The relative difference of two sums of so many products that rounding explains."""


def float64_tolerance(terms: int) -> float:
    """Of float64 sums in different orders, with room for the roundings of divisions and folded layers."""
    return 8 * (terms + 16) * 2.0**-53


def evaluate(graph: Graph, layers: Sequence[Layer | None], x: Tensor) -> Tensor:
    """The last node's value for x (G | 1, B, *input_shape)."""
    values: dict[int, Tensor] = {}
    for index, node in enumerate(graph.nodes):
        inputs = [values[i] for i in node.inputs]
        values[index] = x if isinstance(node, Input) else value_of(node, layers[index], inputs)
        for source in set(node.inputs):
            if graph.consumers[source][-1] == index:
                del values[source]  # nobody reads it again
    return values[graph.output]


def value_of(node: Node, layer: Layer | None, inputs: Sequence[Tensor]) -> Tensor:
    """A node's value for the values that it reads, (G | 1, B, *shape) each."""
    if isinstance(node, ReLU):
        return torch.relu(inputs[0])
    if isinstance(node, Activation):
        return curve(node.kind, node.constants).run(inputs[0])
    out = propagate(layer, node, inputs)
    return out if layer is None or layer.bias is None else out + layer.bias


def error_of(
    node: Node,
    layer: Layer | None,
    inputs: Sequence[Tensor],
    errors: Sequence[Tensor],
    tolerance: Tolerance,
    shift: Tensor | None = None,
) -> Tensor:
    """How far a node's value may differ between two programs.

    Args:
        node: not the input.
        layer: its layer, for the weights that both programs have.
        inputs: the values that it reads, (G | 1, B, *shape) each.
        errors: how far these may differ, likewise.
        tolerance: what rounding explains.
        shift: size of what the layer adds, where the bias hides it, see :func:`shift_size`.
    """
    if isinstance(node, ReLU):
        return errors[0]
    if isinstance(layer, Selection):
        return layer.radius(*errors)
    if isinstance(node, Activation):
        f = curve(node.kind, node.constants)
        size = f.largest(inputs[0], inputs[0]) + f.value(inputs[0]).abs()
        return errors[0] * f.steepest + size * tolerance(f.roundings) + f.slack
    if layer is None:
        carried = propagate(None, node, errors)
        size = propagate(None, node, [value.abs() for value in inputs])
        return carried + size * tolerance(len(inputs)) if len(inputs) == 2 else carried
    size = layer.radius(inputs[0].abs())
    if shift is not None:
        size = size + shift
    elif layer.bias is not None:
        size = size + layer.bias.abs()
    return layer.radius(errors[0]) + size * tolerance(layer.terms)


def shift_size(node: Node, params: Tensor, buffers: Callable[[str], Tensor]) -> Tensor | None:
    """|mean γ / √(var + eps)| + |β| of a BatchNorm that stands alone: what its bias may cancel to zero.

    Args:
        node: any node.
        params: (L,).
        buffers: gives the statistics by name.
    """
    if not isinstance(node, Scale) or not isinstance(node.source, BatchNorm):
        return None
    norm = node.source
    mean, variance = (buffers(f"{norm.path}.{name}").to(params) for name in ("running_mean", "running_var"))
    size = mean.abs() * torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        size = size * params[norm.weight.start : norm.weight.stop].abs()
    if norm.bias is not None:
        size = size + params[norm.bias.start : norm.bias.stop].abs()
    return size.reshape(1, 1, -1, *[1] * (len(node.shape) - 1))


def evaluate_with_error(
    graph: Graph, layers: Sequence[Layer | None], x: Tensor, params: Tensor, buffers: Callable[[str], Tensor]
) -> tuple[Tensor, Tensor]:
    """The last node's value for x (1, B, *input_shape) in float64, and how far another float64 program may be off."""
    values: dict[int, Tensor] = {}
    errors: dict[int, Tensor] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node, Input):
            values[index], errors[index] = x, torch.zeros_like(x)
            continue
        inputs, before = [values[i] for i in node.inputs], [errors[i] for i in node.inputs]
        shift = shift_size(node, params, buffers)
        values[index] = value_of(node, layers[index], inputs)
        errors[index] = error_of(node, layers[index], inputs, before, float64_tolerance, shift)
    return values[graph.output], errors[graph.output]


def agree(left: Tensor, right: Tensor, tolerance: Tensor) -> Tensor:
    """Where two values are equal, both no numbers, or finite and no further apart than ``tolerance``; bool."""
    near = left.isfinite() & right.isfinite() & ((left - right).abs() <= tolerance + torch.finfo(left.dtype).tiny)
    return (left == right) | (left.isnan() & right.isnan()) | near
