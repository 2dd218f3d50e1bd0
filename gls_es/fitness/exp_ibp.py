"""``exp-ibp``: adversarial^(1 - α) · robust^α (Exp-IBP, De Palma et al. 2024, arXiv 2305.13991).

The geometric mean of what ``mtl-ibp`` takes the arithmetic mean of, which it never exceeds; with the stage's
relaxation, intervals if none is chosen. α = 0 is ``adversarial``, α = 1 ``robust``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds import Plan
from gls_es.fitness.adversarial import adversarial_losses
from gls_es.fitness.loss import Loss, passes_of_method
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.robust import robust_losses
from gls_es.network import Network


def geometric(one: Tensor, other: Tensor, *, weight: float, total: float = 1.0) -> Tensor:
    """``one``^(total (1 - weight)) · ``other``^(total weight) of losses >= 0, with finite gradients where they are 0.

    An end of the weight leaves the other factor out, whatever its value.
    """
    tiny = torch.finfo(one.dtype).tiny
    logs = [loss.clamp_min(tiny).log() * (total * share) for loss, share in ((one, 1.0 - weight), (other, weight))]
    return sum((log for log, share in zip(logs, (1.0 - weight, weight), strict=True) if share), 0.0 * logs[0]).exp()


def _image_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    alpha = batch.stage.exp_ibp_alpha
    if alpha == 1.0:
        return robust_losses(net, batch, params, plan)
    adversarial = adversarial_losses(net, batch, params, plan)
    return (
        adversarial if alpha == 0.0 else geometric(adversarial, robust_losses(net, batch, params, plan), weight=alpha)
    )


EXP_IBP = Loss(
    "exp-ibp", "adversarial and robust loss, as powers", _image_losses, passes_of_method, attacks=True, method="ibp"
)
