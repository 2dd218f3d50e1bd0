"""The losses by name, and what the one of a stage makes of a population."""

from __future__ import annotations

from torch import Tensor

from gls_es.basics.suggestions import named
from gls_es.bounds import Plan
from gls_es.fitness.adversarial import ADVERSARIAL
from gls_es.fitness.cc_ibp import CC_IBP
from gls_es.fitness.crown_ibp import CROWN_IBP_LOSS
from gls_es.fitness.exp_ibp import EXP_IBP
from gls_es.fitness.fused import FUSED
from gls_es.fitness.loss import Loss
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.mtl_ibp import MTL_IBP
from gls_es.fitness.natural import NATURAL
from gls_es.fitness.regularizer import regularization
from gls_es.fitness.sabr import SABR
from gls_es.fitness.stage import Stage
from gls_es.fitness.stand_in import ROBUST
from gls_es.fitness.taps import STAPS, TAPS
from gls_es.network import Network

_ALL = (ROBUST, NATURAL, ADVERSARIAL, SABR, MTL_IBP, CC_IBP, EXP_IBP, TAPS, STAPS, CROWN_IBP_LOSS, FUSED)

LOSSES: dict[str, Loss] = {x.name: x for x in _ALL}
"""Every loss by the name that ``loss=`` takes."""


def loss_named(name: str) -> Loss:
    """The loss called ``name``.

    Raises:
        ConfigError: there is none; the message lists the names.
    """
    return named(LOSSES, name, "unknown loss")


def active_loss(stage: Stage) -> Loss:
    """The loss that counts besides the natural one: with eps = 0 the box is a point, where all of them are natural."""
    return NATURAL if stage.natural_weight == 1.0 or stage.eps == 0.0 else loss_named(stage.loss)


def image_losses(net: Network, batch: Minibatch, params: Tensor, *, plan: Plan | None = None) -> Tensor:
    """Every member's loss on every image: (1 - κ) the stage's loss + κ natural cross-entropy, (n, B)."""
    plan = Plan.default(params.device.type) if plan is None else plan
    loss, weight = active_loss(batch.stage), batch.stage.natural_weight
    value = loss.image_losses(net, batch, params, plan)
    if loss is NATURAL or weight == 0.0:
        return value
    return (1.0 - weight) * value + weight * NATURAL.image_losses(net, batch, params, plan)


def member_losses(
    net: Network, batch: Minibatch, params: Tensor, *, l1: float = 0.0, plan: Plan | None = None
) -> Tensor:
    """Every member's fitness: the weighted mean of its image losses, the stage's regulariser and l1 Σ|θ|, (n,)."""
    losses = batch.weighted(image_losses(net, batch, params, plan=plan)).mean(1)
    if batch.stage.regularizer > 0.0:
        plan = Plan.default(params.device.type) if plan is None else plan
        losses = losses + batch.stage.regularizer * regularization(net, batch, params, plan=plan)
    return losses + l1 * params.abs().sum(1) if l1 > 0.0 else losses
