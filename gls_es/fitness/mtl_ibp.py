"""``mtl-ibp``: (1 - α) adversarial + α robust cross-entropy (MTL-IBP, De Palma et al. 2024, arXiv 2305.13991).

The robust part uses the stage's relaxation, intervals if none is chosen. α = 0 is ``adversarial``, α = 1 ``robust``.
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds import Plan
from gls_es.fitness.adversarial import adversarial_losses
from gls_es.fitness.loss import Loss, passes_of_method
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.robust import robust_losses
from gls_es.network import Network


def _image_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    alpha = batch.stage.mtl_ibp_alpha
    if alpha == 1.0:
        return robust_losses(net, batch, params, plan)
    adversarial = adversarial_losses(net, batch, params, plan)
    if alpha == 0.0:
        return adversarial
    return (1.0 - alpha) * adversarial + alpha * robust_losses(net, batch, params, plan)


MTL_IBP = Loss(
    "mtl-ibp", "adversarial and robust loss, weighted", _image_losses, passes_of_method, attacks=True, method="ibp"
)
