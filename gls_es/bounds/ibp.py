"""``ibp``: interval bound propagation (Gowal et al. 2018; Mirman et al. 2018, "Box").

An affine map takes centre c and radius r to W c + b and |W| r; ReLU takes [l, u] to [max(l, 0), max(u, 0)]; the sum of
two branches is the sum of their intervals. The margin matrix is folded into the last affine layer. The loosest bounds
and the cheapest, and the only ones that are continuous and insensitive in the weights (arXiv 2102.06700: tightness
0.73, continuous, insensitive).
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds.method import Method, fill
from gls_es.bounds.nodes import interval_bounds, interval_margins
from gls_es.bounds.pushed import pushed_margins
from gls_es.bounds.query import Query
from gls_es.bounds.sweep import swept_margins
from gls_es.network.graph import Linear


def preactivations(query: Query) -> None:
    """Intervals for every ReLU."""
    fill(query, interval_bounds, None)


def direct(query: Query, labels: Tensor) -> Tensor:
    """The margins by a sweep in place, (G, B, K - 1)."""
    if isinstance(query.node(query.graph.output), Linear):
        found = pushed_margins(query, labels)
        return swept_margins(query, labels) if found is None else found
    preactivations(query)
    return interval_margins(query, labels)


IBP = Method("ibp", "interval arithmetic", preactivations, interval_margins, passes="none", direct=direct, balls=True)
