"""``crown-intersect``: ``crown`` and intervals, each helping the other (as IBP and CROWN together in peers' cascades).

Layer by layer, a pre-activation's bounds are the intersection of its own backward pass (adaptive lower slopes, as in
``crown``) and of interval arithmetic from the ReLUs before it, whose bounds were intersected in the same way. The
margins are the elementwise maximum of the backward pass' and the intervals'. Never below ``ibp``, which starts from
wider intervals. Not always above ``crown``: tighter bounds of a neuron can flip its adaptive slope.

Not a row of the paradox table (arXiv 2102.06700). Where intervals are tighter nowhere it is CROWN (tightness 3.36
there) and as discontinuous and sensitive; on networks trained with intervals it is tighter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds.method import Method, fill
from gls_es.bounds.nodes import backward_bounds, backward_margins, interval_bounds, interval_margins
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import adaptive

Bounds = tuple[Tensor, Tensor]


def intersection(one: Bounds, other: Bounds) -> Bounds:
    """The overlap of two enclosures of the same values; never empty, even if their roundings leave a gap."""
    lower, upper = torch.maximum(one[0], other[0]), torch.minimum(one[1], other[1])
    return lower, torch.maximum(lower, upper)


def intersected_bounds(query: Query, index: int) -> Bounds:
    """(l, u) of node ``index`` by intervals and by its own backward pass, (G, B, *shape) each."""
    intervals = interval_bounds(query, index)
    return intervals if query.regions.exact[index] else intersection(intervals, backward_bounds(query, index))


def preactivations(query: Query) -> None:
    """Bounds of every ReLU's input, and the lines for what follows."""
    fill(query, intersected_bounds, adaptive)


def margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j, (G, B, K - 1)."""
    return torch.maximum(interval_margins(query, labels), backward_margins(query, labels))


CROWN_INTERSECT = Method(
    "crown-intersect", "crown with every layer intersected with intervals", preactivations, margins
)
