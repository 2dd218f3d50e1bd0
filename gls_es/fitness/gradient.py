"""Losses of members and their mean gradient, within a budget of memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.basics.threads import each, workers
from gls_es.bounds import Plan
from gls_es.bounds.plan import row_size
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.regularizer import regularization
from gls_es.fitness.table import active_loss, image_losses
from gls_es.network import Network


def gradient_image_chunk(net: Network, batch: Minibatch, budget: int) -> int:
    """How many images one member's graph may hold for ``budget`` bytes of saved tensors."""
    passes = active_loss(batch.stage).passes(batch.stage)
    if passes == "none":
        per_image = 16 * sum(math.prod(node.shape) for node in net.graph.nodes)
    else:
        layers = [] if passes == "last" else [net.graph.nodes[i].inputs[0] for i in net.graph.relus()]
        starts = [*layers, net.graph.output]
        per_image = 16 * max(row_size(net.graph, i) for i in starts) * len(starts)
    return max(1, min(len(batch), budget // (per_image * batch.images.element_size())))


def mean_gradient(
    net: Network, batch: Minibatch, params: Tensor, *, l1: float = 0.0, budget: int = 1 << 30, plan: Plan | None = None
) -> tuple[Tensor, Tensor]:
    """Losses of the members and the mean of their gradients, one member and some images at a time.

    The regulariser is not a mean over images and takes all of them at once, whatever the budget: about as much as the
    graph of one member's interval bounds.

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
    """One member's mean loss with the stage's regulariser, and its gradient."""

    def gradient(value: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
        return value.detach(), torch.autograd.grad(value, leaf)[0][0]

    def piece(start: int) -> tuple[Tensor, Tensor]:
        part = batch.part(start, min(start + chunk, len(batch)))
        leaf = member.detach().clone()[None].requires_grad_()
        with torch.enable_grad():
            return gradient(part.weighted(image_losses(net, part, leaf, plan=plan)).sum() / len(batch), leaf)

    starts = range(0, len(batch), chunk)
    pieces = each(piece, starts) if member.device.type == "cpu" else [piece(start) for start in starts]
    if batch.stage.regularizer > 0.0:
        leaf = member.detach().clone()[None].requires_grad_()
        with torch.enable_grad():
            value = regularization(net, batch, leaf, plan=plan or Plan.default(leaf.device.type))[0]
            pieces.append(gradient(batch.stage.regularizer * value, leaf))
    return torch.stack([p[0] for p in pieces]).sum(), torch.stack([p[1] for p in pieces]).sum(0)
