"""``robust``: the cross-entropy of the worst case that a relaxation allows on the whole box.

With lower bounds m_j of the margins f_y - f_j it is log(1 + Σ_j exp(-m_j)) (Wong & Kolter 2018; with ``ibp`` Gowal et
al. 2018, with others the losses of arXiv 2403.07095).
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds import Plan, box_margins
from gls_es.fitness.loss import Loss, passes_of_method
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.minibatch import Minibatch
from gls_es.network import Network


def robust_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    """Every member's robust cross-entropy on every image under the stage's relaxation, (n, B)."""
    margins = box_margins(net, batch.box, batch.labels, params, method=batch.stage.method, plan=plan)
    return robust_cross_entropy(margins)


ROBUST = Loss("robust", "cross-entropy of the relaxation's worst case", robust_losses, passes_of_method)
