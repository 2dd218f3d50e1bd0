"""``cc-ibp``: the loss of (1 - α) adversarial + α bounded margins (CC-IBP, De Palma et al. 2024, arXiv 2305.13991).

Where ``mtl-ibp`` mixes two losses, this one mixes what goes into one: log(1 + Σ_j exp(-m_j)) of the margins
m = (1 - α) (f_y - f_j)(x') + α m_M, x' the point of an attack and m_M the lower bounds of the stage's relaxation,
intervals if none is chosen. α = 0 is ``adversarial``, α = 1 ``robust``; as the loss is convex in m, it never exceeds
``mtl-ibp`` of the same α.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds import Plan, box_margins
from gls_es.fitness.adversarial import adversarial_losses
from gls_es.fitness.attack import adversarial_points
from gls_es.fitness.loss import Loss, by_groups, passes_of_method
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.robust import robust_losses
from gls_es.network import Network


def point_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The margins f_y - f_j over the classes other than y in ascending order, of logits (n, B, K): (n, B, K - 1)."""
    classes = logits.shape[-1]
    others = torch.arange(classes - 1, device=labels.device)
    others = others + (others >= labels[:, None])  # (B, K - 1)
    true = logits.gather(2, labels.expand(len(logits), -1)[..., None])
    return true - logits.gather(2, others.expand(len(logits), -1, -1))


def _image_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    alpha = batch.stage.cc_ibp_alpha
    if alpha == 1.0:
        return robust_losses(net, batch, params, plan)
    if alpha == 0.0:
        return adversarial_losses(net, batch, params, plan)

    def attacked(group: Tensor) -> Tensor:
        return point_margins(net.logits(adversarial_points(net, batch, group), group), batch.labels)

    bounded = box_margins(net, batch.box, batch.labels, params, method=batch.stage.method, plan=plan)
    return robust_cross_entropy((1.0 - alpha) * by_groups(attacked, net, batch, params, plan=plan) + alpha * bounded)


CC_IBP = Loss(
    "cc-ibp", "loss of adversarial and bounded margins, weighted", _image_losses, passes_of_method, True, "ibp"
)
