"""``deepz``: zonotopes (Singh et al. 2018; the bounds of Fast-Lin, Weng et al. 2018, and of Wong and Kolter 2018).

A node's values are h + Σ e_i x_i with a head h and error terms e_i times unknown x_i in [-1, 1], one for every pixel
(its radius) and every unstable neuron before the node. Affine maps act on head and terms, and sums of branches add
terms that arose at the same place. A ReLU with bounds [l, u] = h ± Σ|e_i| keeps head and terms where l >= 0, makes
them zero where u <= 0, and otherwise takes z to s z + μ ± μ with s = u / (u - l) and μ = -s l / 2: it scales head and
terms by s, shifts the head by μ, and adds a new error term of size μ; another activation does the same with the two
parallel lines that have its chord's slope. The margin matrix is folded into the last layer.

The same bounds as ``crown-same``, found from the other end: this is the forward twin, for checking one by the other
and for networks with few inputs and few unstable neurons. On images ``crown-same`` is many times faster, because its
coefficients stay on windows, and error terms are dense.

Of the paradox table (arXiv 2102.06700, DeepZ / CAP / Fast-Lin / Neurify): tightness 3.00, continuous, sensitive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds.curved import curve_of, enclosed
from gls_es.bounds.forward import Forward, Step
from gls_es.bounds.method import Method
from gls_es.bounds.nodes import folded, output_rows
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import same
from gls_es.bounds.terms import spread
from gls_es.network.graph import Node


def _step(node: Node, lower: Tensor, upper: Tensor, error: Tensor | None) -> Step:
    """``error`` covers the roundings of s, μ and the scaled head and terms, which stable neurons do not have."""
    f = curve_of(node)
    if f is not None:
        lines = enclosed(f, lower, upper, None, same)
        return Step(lines.mean, lines.mean_offset, box=error, term=lines.half_offset.clamp_min(0))
    # relu() has gradient 0 at 0, so a neuron with l = u = 0 gets finite gradients from the guarded division
    above, below = torch.relu(upper), -torch.relu(-lower)
    slope = above / (above - below).clamp_min(torch.finfo(lower.dtype).tiny)
    middle = slope * below * -0.5
    if error is not None:
        error = torch.where(((lower >= 0) & (slope == 1)) | (upper <= 0), 0.0, error)
    return Step(slope, middle, box=error, term=middle)


def preactivations(query: Query) -> None:
    """Bounds of every ReLU's input."""
    forward = Forward(query, _step)
    for relu in query.relus:
        source = query.source(relu)
        head, box = forward.state(source)
        exact = query.regions.exact[source]
        radius = box + (query.interval(source)[1] if exact else spread(query, forward, source))
        query.bounds[relu] = query.for_all(head - radius), query.for_all(head + radius)


def margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j, (G, B, K - 1)."""
    forward = Forward(query, _step)
    rows = output_rows(query, labels)
    output = query.graph.output
    return -(folded(query, output, rows, forward.state) + spread(query, forward, output, rows))


DEEPZ = Method(
    "deepz",
    "zonotopes, with an error term for every pixel and unstable neuron",
    preactivations,
    margins,
    passes="forward",
)
