"""The fitness itself: losses of members on a minibatch, and their mean gradient, within a budget of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gls_es.bounds import Box, Plan, box_margins, entry_box
from gls_es.bounds.plan import row_size
from gls_es.losses import robust_cross_entropy
from gls_es.network import Network
from gls_es.threads import each, workers


@dataclass(frozen=True)
class Stage:
    """What the fitness is at one generation.

    Attributes:
        eps: radius of the box, in [0, 1] pixel units.
        natural_weight: weight κ of the natural cross-entropy; the robust one gets 1 - κ.
        method: the relaxation.
    """

    eps: float
    natural_weight: float
    method: str


@dataclass(frozen=True)
class Minibatch:
    """Images, labels and the boxes around them, prepared once for a whole population.

    Attributes:
        images: (B, *input_shape).
        labels: (B,) int64.
        box: the boxes of radius eps, clipped to [0, 1], at the network's entry.
        stage: the stage they were made for.
    """

    images: Tensor
    labels: Tensor
    box: Box
    stage: Stage

    @classmethod
    def prepare(cls, net: Network, images: Tensor, labels: Tensor, stage: Stage) -> Minibatch:
        """The minibatch for one generation."""
        lower, upper = (images - stage.eps).clamp(min=0.0), (images + stage.eps).clamp(max=1.0)
        return cls(images, labels, entry_box(net, Box.between(lower, upper)), stage)

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Minibatch:
        """The images start:stop (views)."""
        box = self.box.images(start, stop)
        return Minibatch(self.images[start:stop], self.labels[start:stop], box, self.stage)


def image_losses(net: Network, batch: Minibatch, params: Tensor, *, plan: Plan | None = None) -> Tensor:
    """Every member's loss on every image: (1 - κ) robust + κ natural cross-entropy, (n, B)."""
    weight = batch.stage.natural_weight
    # with eps = 0 the box is a point, where every relaxation gives the natural cross-entropy
    only_natural = weight == 1.0 or batch.stage.eps == 0.0
    natural = natural_losses(net, batch, params) if weight > 0.0 or only_natural else None
    if only_natural:
        assert natural is not None
        return natural
    margins = box_margins(net, batch.box, batch.labels, params, method=batch.stage.method, plan=plan)
    robust = robust_cross_entropy(margins)
    return robust if natural is None else (1.0 - weight) * robust + weight * natural


def natural_losses(net: Network, batch: Minibatch, params: Tensor) -> Tensor:
    """Every member's cross-entropy on every image, (n, B)."""
    logits = net.logits(batch.images, params)
    members, images, classes = logits.shape
    labels = batch.labels.expand(members, -1).reshape(-1)
    losses: Tensor = cross_entropy(logits.reshape(-1, classes), labels, reduction="none")
    return losses.reshape(members, images)


def gradient_image_chunk(net: Network, batch: Minibatch, budget: int) -> int:
    """How many images one member's graph may hold for ``budget`` bytes of saved tensors."""
    starts = [net.graph.nodes[i].inputs[0] for i in net.graph.relus()]
    if batch.stage.method == "ibp" or batch.stage.natural_weight == 1.0:
        per_image = 16 * sum(_values(net, i) for i in range(len(net.graph.nodes)))
    else:
        passes = [net.graph.output] if batch.stage.method == "crown-ibp" else [*starts, net.graph.output]
        per_image = 16 * max(row_size(net.graph, i) for i in passes) * len(passes)
    return max(1, min(len(batch), budget // (per_image * batch.images.element_size())))


def _values(net: Network, index: int) -> int:
    return int(torch.Size(net.graph.nodes[index].shape).numel())


def mean_gradient(
    net: Network, batch: Minibatch, params: Tensor, *, l1: float = 0.0, budget: int = 1 << 30, plan: Plan | None = None
) -> tuple[Tensor, Tensor]:
    """Losses of the members and the mean of their gradients, one member and some images at a time.

    Members with a non-finite loss or gradient are left out of the mean, and their loss is NaN.

    Args:
        net: the network.
        batch: the minibatch.
        params: (n, L).
        l1: weight of Σ|θ|.
        budget: bytes that the graph of one piece may take.
        plan: chunk sizes of the backward passes.

    Returns:
        Losses (n,) and the mean gradient (L,), zero if no member's was finite.
    """
    threads = workers() if params.device.type == "cpu" else 1
    chunk = gradient_image_chunk(net, batch, budget // threads)
    chunk = min(chunk, math.ceil(len(batch) / threads))
    total = torch.zeros_like(params[0])
    losses = params.new_zeros(len(params))
    counted = 0
    for index in range(len(params)):
        loss, gradient = _gradient(net, batch, params[index], chunk, plan)
        losses[index] = loss + l1 * params[index].abs().sum()
        if bool(torch.isfinite(losses[index]) & torch.isfinite(gradient).all()):
            total += gradient + l1 * params[index].sign()
            counted += 1
        else:
            losses[index] = torch.nan
    return losses, total / max(counted, 1)


def _gradient(net: Network, batch: Minibatch, member: Tensor, chunk: int, plan: Plan | None) -> tuple[Tensor, Tensor]:
    """One member's mean loss and its gradient."""

    def piece(start: int) -> tuple[Tensor, Tensor]:
        part = batch.part(start, min(start + chunk, len(batch)))
        leaf = member.detach().clone()[None].requires_grad_()
        with torch.enable_grad():
            loss = image_losses(net, part, leaf, plan=plan).sum() / len(batch)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient[0]

    starts = range(0, len(batch), chunk)
    pieces = each(piece, starts) if member.device.type == "cpu" else [piece(start) for start in starts]
    return torch.stack([p[0] for p in pieces]).sum(), torch.stack([p[1] for p in pieces]).sum(0)
