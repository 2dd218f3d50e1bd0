"""Adversarial points of a whole population during training: projected gradient ascent, each member on its own copy.

x ← Π(x + s ε sign ∇_x loss), from random starts in the ball (Madry et al. 2018, arXiv 1706.06083). The loss ascended
is the logarithm of Σ_{j ≠ y} exp(f_j - f_y), of which cross-entropy is an increasing function: the sign of its gradient
is that of cross-entropy's, also where the latter underflows to zero. The best point met counts, the image itself
included, so that an attack never makes a loss smaller. Gradients do not flow through the search.

All members start at the same points: as with the minibatch, what differs between them is then due to their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.errors import ConfigError
from gls_es.fitness.minibatch import Minibatch
from gls_es.network import Network


def adversarial_points(net: Network, batch: Minibatch, params: Tensor) -> Tensor:
    """The points of the stage's attack, (n, B, *input_shape), within the ball of radius ``stage.attack_eps``.

    Args:
        net: the network.
        batch: the minibatch, with ``starts``.
        params: (n, L).

    Raises:
        ConfigError: the minibatch was prepared without an ``attack_seed``.
    """
    if batch.starts is None:
        raise ConfigError(f"loss {batch.stage.loss!r} attacks: prepare its minibatch with an attack_seed.")
    attack, radius = batch.stage.attack, batch.stage.attack_eps
    weights = params.detach()
    lower, upper = batch.perturbation.ends(batch.images, radius)
    reach = batch.perturbation.reach(batch.images, radius)
    best = batch.images.expand(len(weights), *batch.images.shape)
    with torch.no_grad():
        highest = _danger(net, best, batch.labels, weights)
    for start in batch.starts:
        points = (lower + start * (upper - lower)).clamp(lower, upper).expand_as(best)
        for step in range(attack.steps + 1):
            last = step == attack.steps
            with torch.set_grad_enabled(not last):
                points = points.detach().requires_grad_(not last)
                danger = _danger(net, points, batch.labels, weights)
                gradient = None if last else torch.autograd.grad(danger.sum(), points)[0]
            points, danger = points.detach(), danger.detach()
            better = danger > highest
            best = torch.where(better.reshape(*better.shape, *[1] * len(net.input_shape)), points, best)
            highest = torch.where(better, danger, highest)
            if gradient is not None:
                points = (points + attack.step_size * reach * gradient.sign()).clamp(lower, upper)
    return best


def _danger(net: Network, points: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The logarithm of Σ_{j ≠ y} exp(f_j - f_y) at every member's points, (n, B)."""
    logits = net.logits(points, weights)
    true = labels[None, :, None].expand(len(logits), -1, 1)
    others = logits.scatter(2, true, -torch.inf)
    return others.logsumexp(2) - logits.gather(2, true).squeeze(2)
