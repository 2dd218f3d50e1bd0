"""``crown-ibp``: the robust loss of β CROWN-IBP margins + (1 - β) interval margins.

The training of CROWN-IBP (Zhang et al. 2020, arXiv 1906.06316), without its fusion of loss and bounds.
β falls from 1 to its end while eps grows (the schedule is the recipe's), so that training begins under the tighter
bounds and ends under the ones that are cheap and smooth. β = 1 is ``robust`` with ``crown-ibp``, β = 0 with ``ibp``.
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds import Plan, box_margins, mixed_crown_ibp
from gls_es.fitness.loss import Loss
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.stage import Stage
from gls_es.network import Network


def _image_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    method = mixed_crown_ibp(batch.stage.crown_ibp_beta)
    return robust_cross_entropy(box_margins(net, batch.box, batch.labels, params, method=method, plan=plan))


def _passes(stage: Stage) -> str:
    return mixed_crown_ibp(stage.crown_ibp_beta).passes


CROWN_IBP_LOSS = Loss(
    "crown-ibp",
    "robust loss of CROWN-IBP's and intervals' margins, weighted",
    _image_losses,
    _passes,
    method="crown-ibp",
)
