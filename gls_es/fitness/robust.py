"""``robust``: the cross-entropy of the worst case that a relaxation allows on the whole box.

With lower bounds m_j of the margins f_y - f_j it is log(1 + Σ_j exp(-m_j)) (Wong & Kolter 2018; with ``ibp`` Gowal et
al. 2018, with others the losses of arXiv 2403.07095).
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds import Plan, box_margins
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.minibatch import Minibatch
from gls_es.network import Network


def robust_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan, *, method: str | None = None) -> Tensor:
    """Every member's robust cross-entropy on every image, (n, B), under the stage's relaxation or another."""
    method = batch.stage.method if method is None else method
    return robust_cross_entropy(box_margins(net, batch.box, batch.labels, params, method=method, plan=plan))
