"""Why an image is unknown whatever search is run: a number that may overflow, or one that underflows and matters.

Underflow changes every executed value by a little, and what follows multiplies that. The largest such changes are
pushed forward from layer to layer, |W| times what arrives and what is lost in the layer itself; a ReLU enlarges
nothing. Where they make up half of what every margin lacks or more, they are what is in the way.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gls_es.bounds import method_named
from gls_es.bounds.box import Box
from gls_es.bounds.curved import curve_of
from gls_es.bounds.query import Query, entry_box
from gls_es.certification.execution import other_classes
from gls_es.certification.rounding import ExecutionModel, sound_query
from gls_es.network import Network
from gls_es.network.graph import Nonlinear
from gls_es.network.layers import reached

Bounds = Mapping[int, tuple[Tensor, Tensor]]
"""Proven bounds of every ReLU's inputs, (1, B, *shape) each, by its index."""


@torch.no_grad()
def obstacles(
    net: Network,
    lower: Tensor,
    upper: Tensor,
    labels: Tensor,
    margins: Tensor,
    *,
    execution: str,
    bounds: Bounds | None = None,
) -> list[str | None]:
    """What keeps images from being certified, "overflow", "underflow" or None.

    Args:
        net: the network.
        lower: the box, (B, *input_shape), float64, see ``rounding.outward_ball``.
        upper: the same shape.
        labels: (B,), int64.
        margins: the best proven lower bounds, (B, K - 1).
        execution: what is certified, see ``rounding.sound_margins``.
        bounds: what is known of the pre-activations; intervals if nothing is.
    """
    model = ExecutionModel.named(execution, net.graph).without_roundings()
    query = sound_query(net, lower, upper, execution=execution, model=model)
    if bounds is None:
        method_named("ibp").preactivations(query)
    else:
        query.bounds = dict(bounds)
    centre = ((lower + upper) / 2)[None]
    entry = entry_box(net, Box(centre, torch.zeros_like(centre)), model.error).radius
    moved = _moved(query, entry)
    rivals = other_classes(labels, num_classes=moved.shape[1])
    slack = moved.gather(1, labels[:, None]) + moved.gather(1, rivals)
    overflow = ~slack.isfinite().all(dim=1) | ~query.box.radius.isfinite().flatten(2).all(dim=2)[0]
    underflow = (margins + 2 * slack > 0).all(dim=1)  # half of it: bounds lose more on such wide intervals
    return [
        "overflow" if over else "underflow" if under else None
        for over, under in zip(overflow.tolist(), underflow.tolist(), strict=True)
    ]


def _moved(query: Query, entry: Tensor) -> Tensor:
    """How far what is lost can move every output, (B, K); not finite where a number may overflow.

    Args:
        query: with a model that charges nothing else.
        entry: the same at the node of the box.
    """
    for index in range(query.regions.box, query.graph.output + 1):
        query.interval(index)
    assert query.errors is not None
    moved = {query.regions.box: entry}
    for index in range(query.regions.box + 1, query.graph.output + 1):
        node, layer = query.node(index), query.layers[index]
        before = [moved[i] for i in node.inputs]
        if isinstance(node, Nonlinear):
            f = curve_of(node)
            moved[index] = before[0] if f is None else before[0] * f.steepest + query.errors[index]
            continue
        value = reached(layer, node, before)
        moved[index] = value + query.errors[index] if index in query.errors else value
    return moved[query.graph.output].expand(1, len(query.box), -1)[0]
