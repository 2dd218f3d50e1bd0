"""``sabr``: the robust loss of a small box around an adversarial point (Müller et al. 2023, arXiv 2210.04871).

With τ = λ ε the attack's point is moved into the ball of radius ε - τ around the image, so that the box of radius τ
around it, clipped to [0, 1], lies in the ball of radius ε; that box is what the relaxation bounds. λ = 1 is ``robust``,
λ = 0 ``adversarial``.
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds import Box, Plan, box_margins, entry_box
from gls_es.fitness.attack import adversarial_points
from gls_es.fitness.loss import Loss, by_groups, passes_of_method
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.minibatch import Minibatch
from gls_es.network import Network


def small_boxes(batch: Minibatch, points: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the small boxes around the members' points, (n, B, *input_shape) each."""
    eps = batch.stage.eps
    tau = batch.stage.sabr_lambda * eps
    room = batch.perturbation.reach(batch.images, eps - tau)
    return batch.perturbation.ends(points.clamp(batch.images - room, batch.images + room), tau)


def sabr_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    """Every member's robust cross-entropy on its own small boxes, (n, B)."""

    def losses(group: Tensor) -> Tensor:
        box = entry_box(net, Box.of_members(*small_boxes(batch, adversarial_points(net, batch, group))))
        margins = box_margins(net, box, batch.labels, group, method=batch.stage.method, plan=plan)
        return robust_cross_entropy(margins)

    return by_groups(losses, net, batch, params, plan=plan)


SABR = Loss(
    "sabr",
    "robust loss of a small box around an attack's point",
    sabr_losses,
    passes_of_method,
    attacks=True,
    method="ibp",
)
