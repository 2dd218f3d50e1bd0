"""``natural``: the cross-entropy of the images themselves; ordinary training, certifiable only by luck."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from gls_es.bounds import Plan
from gls_es.fitness.loss import Loss, no_passes
from gls_es.fitness.minibatch import Minibatch
from gls_es.network import Network


def cross_entropies(net: Network, images: Tensor, labels: Tensor, params: Tensor) -> Tensor:
    """Every member's cross-entropy on every image.

    Args:
        net: the network.
        images: (B, *input_shape), or (n, B, *input_shape) if each member has its own.
        labels: (B,).
        params: (n, L).

    Returns:
        (n, B).
    """
    logits = net.logits(images, params)
    members, count, classes = logits.shape
    targets = labels.expand(members, -1).reshape(-1)
    losses: Tensor = cross_entropy(logits.reshape(-1, classes), targets, reduction="none")
    return losses.reshape(members, count)


def _image_losses(net: Network, batch: Minibatch, params: Tensor, _plan: Plan) -> Tensor:
    return cross_entropies(net, batch.images, batch.labels, params)


NATURAL = Loss("natural", "cross-entropy of the images themselves", _image_losses, no_passes)
