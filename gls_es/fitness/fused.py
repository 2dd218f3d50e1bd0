"""``crown-ibp-fused``: CROWN-IBP of the loss itself, one backward pass a row (loss fusion, Xu et al. 2020).

arXiv 2002.12920, section 4.2. ``crown-ibp`` bounds every margin by a row of its own, K - 1 of them: with 200 classes
that is what training costs. Here the exponentials go into the network: with intervals l <= d <= u of the differences
d_j = f_j - f_y, each exponential lies below its chord,

    exp(d_j) <= exp(u_j) + s_j (d_j - u_j),   s_j = (exp(u_j) - exp(l_j)) / (u_j - l_j),

so that Σ_j exp(d_j) is at most a constant and one linear function Σ_j s_j d_j of the logits, whose upper bound U takes
one row. The loss is log(1 + β U + (1 - β) Σ_j exp(u_j)); its β falls as that of ``crown-ibp``, and with β = 0 it is
``robust`` with ``ibp``. Unlike ``crown-ibp`` with β = 1 it can be above or below what the margins' own rows give: the
chords lose, and bounding the sum at once gains.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds import METHODS, Method, Plan, box_margins
from gls_es.bounds.backward import Rows, upper_bounds
from gls_es.bounds.nodes import chunks, folded, output_rows
from gls_es.bounds.query import Query
from gls_es.bounds.step import row_dot
from gls_es.fitness.loss import Loss
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.stage import Stage
from gls_es.network import Network


def fused_crown_ibp(weight: float) -> Method:
    """The relaxation whose only margin m has exp(-m) = the bound of Σ_j exp(f_j - f_y), (G, B, 1).

    Args:
        weight: β in [0, 1], of the backward pass' bound; the rest is that of intervals, and for 0 there is no pass.
    """
    intervals = METHODS["ibp" if weight == 0.0 else "crown-ibp"]

    def margins(query: Query, labels: Tensor) -> Tensor:
        return _margin(query, labels, weight)

    return Method("fused-crown-ibp", f"{weight:g} fused", intervals.preactivations, margins, intervals.passes)


def _margin(query: Query, labels: Tensor, weight: float) -> Tensor:
    """One minus logarithm for the sum, shifted by the largest difference so that no exponential overflows."""
    output = query.graph.output
    rows = output_rows(query, labels)
    upper = folded(query, output, rows, query.interval)
    top = upper.detach().amax(2, keepdim=True).clamp_min(0.0)
    ends = (upper - top).exp()
    total = ends.sum(2, keepdim=True)
    if weight > 0.0:
        lower = -folded(query, output, -rows, query.interval)
        slopes = ends * _mean_decay(upper - lower)
        function = torch.matmul(slopes[:, :, None], rows)  # (G | 1, B, 1, K)
        constant = (ends - slopes * (upper - top)).sum(2, keepdim=True) - top * slopes.sum(2, keepdim=True)
        bound = constant + _upper(query, function)
        total = weight * bound + (1.0 - weight) * total
    return -(total.clamp_min(torch.finfo(total.dtype).tiny).log() + top)


def _mean_decay(width: Tensor) -> Tensor:
    """(1 - exp(-w)) / w, with its limit 1 at 0."""
    wide = width > 1e-6
    safe = torch.where(wide, width, 1.0)
    return torch.where(wide, -torch.expm1(-safe) / safe, 1.0 - width / 2)


def _upper(query: Query, function: Tensor) -> Tensor:
    """The upper bound of one linear function of the logits an image, (G | 1, B, 1, K) -> (G, B, 1)."""
    output = query.graph.output
    images = chunks(len(query.box), query.plan.image_chunk(query, output, 1))
    bound = torch.cat([upper_bounds(query, output, Rows(function[:, part]), part) for part in images], 1)
    query.forget_seen()
    base = query.base(output)
    return bound if base is None else bound + row_dot(function, base)


def _image_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    method = fused_crown_ibp(batch.stage.crown_ibp_beta)
    return robust_cross_entropy(box_margins(net, batch.box, batch.labels, params, method=method, plan=plan))


def _passes(stage: Stage) -> str:
    return fused_crown_ibp(stage.crown_ibp_beta).passes


FUSED = Loss(
    "crown-ibp-fused",
    "CROWN-IBP of the loss itself, for many classes",
    _image_losses,
    _passes,
    method="crown-ibp",
)
