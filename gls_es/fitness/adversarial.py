"""``adversarial``: the cross-entropy at an adversarial point of the ball (PGD training, Madry et al. 2018).

A lower bound of the worst case, where ``robust`` is an upper one.
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds import Plan
from gls_es.fitness.attack import adversarial_points
from gls_es.fitness.loss import Loss, by_groups, no_passes
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.natural import cross_entropies
from gls_es.network import Network


def adversarial_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    """Every member's cross-entropy at its own adversarial points, (n, B)."""

    def losses(group: Tensor) -> Tensor:
        return cross_entropies(net, adversarial_points(net, batch, group), batch.labels, group)

    return by_groups(losses, net, batch, params, plan=plan)


ADVERSARIAL = Loss(
    "adversarial", "cross-entropy at the point of an attack", adversarial_losses, no_passes, attacks=True
)
