"""``taps`` and ``staps``: bounds up to a ReLU, an attack behind it (Mao et al. 2023, arXiv 2305.04574).

The network is split at a ReLU (``taps_relus`` of them lie behind it). Up to there the stage's relaxation, intervals if
none is chosen, gives a box of embeddings; from there, for every class j ≠ y of its own, projected gradient ascent on
f_j - f_y looks for a point ẑ_j of that box, so that

    T = log(1 + Σ_j exp(f_j(ẑ_j) - f_y(ẑ_j)))

lies between what an attack on the image finds and the robust loss R of the whole network: the error of bounding the
layers behind the split is left out. What is minimised is T^(2α) · R^(2 - 2α), for α = 1/2 the paper's product T R. (The
paper weighs the two parts of the product's gradient by 2α and 2 - 2α instead, which is the gradient of no function;
for one image it points the same way as this one's.) ``staps`` does the same on the small box of ``sabr``.

**Ends.** With no ReLU behind the split (``taps_relus`` = 0) the layers there are linear, the attack is exact and T is
R; with all of them T is an adversarial loss whose every class has its own point. α = 0 is R², α = 1 is T².

**The gradient connector.** The point is held fixed relative to the box, so that gradients flow from it into the box's
ends and through the bounds into the layers before the split. With t = (ẑ - l) / (u - l) and the connector's width c,

    ∂ẑ/∂l = max(0, 1 - t / c),   ∂ẑ/∂u = max(0, 1 - (1 - t) / c)

the paper's rectified linear connector; c = 1 is the exact derivative of l + t (u - l), while c = 1/2, the paper's
choice, gives a coordinate in the middle of the box no gradient. Points at corners, where most end, are treated alike.

The ascent takes the stage's ``attack`` steps, their sizes relative to the half width of the box of embeddings, each
class on its own. The first start is the middle of the box, further ones are fixed places in it, the same for all
images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gls_es.basics.seeding import generator
from gls_es.bounds import Box, Plan, box_margins, entry_box
from gls_es.fitness.attack import adversarial_points
from gls_es.fitness.exp_ibp import geometric
from gls_es.fitness.loss import Loss, passes_of_method
from gls_es.fitness.losses import robust_cross_entropy
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.sabr import small_boxes
from gls_es.fitness.split import cut, embeddings, logits_behind
from gls_es.fitness.stage import Stage
from gls_es.network import Network
from gls_es.network.layers import Layer

Danger = Callable[[Tensor, list[Layer | None]], Tensor]
"""f_j - f_y of values at the split, (n, N, *shape) -> (n, N), through the layers behind it."""


def taps_margins(net: Network, batch: Minibatch, box: Box, params: Tensor, plan: Plan) -> Tensor:
    """The margins f_y - f_j at every class' own point of the box of embeddings, (n, B, K - 1), j in ascending order.

    Args:
        net: the network.
        batch: labels and stage.
        box: the boxes at the network's entry, (n | 1, B, ...).
        params: (n, L).
        plan: chunk sizes.
    """
    at = cut(net.graph, batch.stage.taps_relus)
    lower, upper = embeddings(net, box, params, at=at, method=batch.stage.method, plan=plan)
    layers = net.layers(params)
    classes = torch.arange(net.num_classes - 1, device=batch.labels.device)
    rivals = (classes + (classes >= batch.labels[:, None])).flatten()  # (B (K - 1),), image by image
    labels = batch.labels.repeat_interleave(len(classes))

    def danger(values: Tensor, at_layers: list[Layer | None]) -> Tensor:
        logits = logits_behind(net.graph, at_layers, at, values)
        one, other = (logits.gather(2, of.expand(len(logits), -1)[..., None])[..., 0] for of in (rivals, labels))
        return one - other

    low, high = (_for_classes(end, len(params), len(classes)) for end in (lower, upper))
    with torch.no_grad():
        places = _ascended(danger, net.layers(params.detach()), low.detach(), high.detach(), batch.stage)
    found = -danger(_connected(low, high, places, batch.stage.taps_connector), layers)
    return found.reshape(len(params), len(batch), len(classes))


def _for_classes(end: Tensor, members: int, classes: int) -> Tensor:
    """An end of the boxes, (n | 1, B, *shape), once for each class: (n, B (K - 1), *shape)."""
    return end.expand(members, *end.shape[1:]).repeat_interleave(classes, 1)


def _ascended(danger: Danger, layers: list[Layer | None], low: Tensor, high: Tensor, stage: Stage) -> Tensor:
    """Where in the boxes [low, high] the danger is greatest, as far as was found: t in [0, 1], of the boxes' shape."""
    attack, best, highest = stage.attack, torch.full_like(low, 0.5), None
    width = high - low
    for start in _starts(low, attack.restarts):
        places = start.expand_as(low)
        for step in range(attack.steps + 1):
            last = step == attack.steps
            with torch.set_grad_enabled(not last):
                places = places.detach().requires_grad_(not last)
                found = danger(low + places * width, layers)
                gradient = None if last else torch.autograd.grad(found.sum(), places)[0]
            places, found = places.detach(), found.detach()
            better = found > (-torch.inf if highest is None else highest)
            best = torch.where(better.reshape(*better.shape, *[1] * (low.dim() - 2)), places, best)
            highest = found if highest is None else torch.where(better, found, highest)
            if gradient is not None:
                places = (places + attack.step_size / 2 * gradient.sign()).clamp(0.0, 1.0)
    return best


def _starts(like: Tensor, count: int) -> list[Tensor]:
    """The middle of the boxes, and places that depend on nothing else."""
    shape = (count - 1, *like.shape[2:])
    others = torch.rand(shape, generator=generator(0, "embeddings"), dtype=torch.float64).to(like)
    return [torch.full_like(like, 0.5), *(other[None, None] for other in others)]


def _connected(low: Tensor, high: Tensor, places: Tensor, width: float) -> Tensor:
    """The points at ``places`` in the boxes, with the connector's gradients; a box without width moves as a whole."""
    values = low.detach() + places * (high - low).detach()
    wide = (high > low).detach()
    to_low = torch.where(wide, (1.0 - places / width).clamp_min(0.0), 0.5)
    to_high = torch.where(wide, (1.0 - (1.0 - places) / width).clamp_min(0.0), 0.5)
    return values + to_low * (low - low.detach()) + to_high * (high - high.detach())


def _losses(net: Network, batch: Minibatch, box: Box, params: Tensor, plan: Plan) -> Tensor:
    stage = batch.stage
    inner = robust_cross_entropy(taps_margins(net, batch, box, params, plan))
    whole = robust_cross_entropy(box_margins(net, box, batch.labels, params, method=stage.method, plan=plan))
    return geometric(whole, inner, weight=stage.taps_alpha, total=2.0)


def _groups(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> tuple[Tensor, ...]:
    """As many members at once as the plan holds values of, for an image a class."""
    size = plan.group(net.graph, len(batch) * (net.num_classes - 1), "none", params.element_size())
    groups: tuple[Tensor, ...] = params.split(size)
    return groups


def taps_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    """Every member's loss on the boxes of the minibatch, (n, B)."""
    return torch.cat([_losses(net, batch, batch.box, group, plan) for group in _groups(net, batch, params, plan)])


def staps_losses(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    """Every member's loss on its own small boxes, (n, B)."""
    parts = []
    for group in _groups(net, batch, params, plan):
        box = entry_box(net, Box.of_members(*small_boxes(batch, adversarial_points(net, batch, group))))
        parts.append(_losses(net, batch, box, group, plan))
    return torch.cat(parts)


def _passes(stage: Stage) -> str:
    """At least those from the margins: a point a class takes about as much."""
    found = passes_of_method(stage)
    return "last" if found == "none" else found


TAPS = Loss("taps", "robust loss, attacked behind a ReLU", taps_losses, _passes, method="ibp")
STAPS = Loss("staps", "TAPS on SABR's small box", staps_losses, _passes, attacks=True, method="ibp")
