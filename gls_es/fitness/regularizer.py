"""The regulariser of short ramps (Shi et al. 2021, arXiv 2103.17268, section 4.3): tight and balanced pre-activations.

For the intervals of every ReLU's input, with centres c and radii d over all neurons and images of the minibatch, and
the mean radius d_0 of the box at the network's entry:

    tightness:  max(0, τ - d_0 / mean(d)) / τ
    balance:    max(0, τ - q) / τ  for q = min(r, 1 / r), once with r = Σ_active c / -Σ_inactive c,
                once with r = Σ_active (c - mean c)² / Σ_inactive (c - mean c)²

Active neurons have l > 0, inactive ones u < 0; τ = 0.5. A layer where one of its ratios is not finite has no balance
term. The value is the mean over the layers; a schedule takes its weight to zero as eps grows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds import Plan, box_preactivations
from gls_es.fitness.loss import by_groups
from gls_es.fitness.minibatch import Minibatch
from gls_es.network import Network

TOLERANCE = 0.5


def regularization(net: Network, batch: Minibatch, params: Tensor, *, plan: Plan) -> Tensor:
    """Every member's regulariser on the minibatch's boxes, (n,); differentiable, 0 for a network without ReLUs."""
    entry = batch.box.radius.mean()

    def penalties(group: Tensor) -> Tensor:
        layers = box_preactivations(net, batch.box, group, method="ibp", plan=plan)
        found = [tightness(lower, upper, entry) + balance(lower, upper) for lower, upper in layers]
        return torch.stack(found).mean(0) if found else 0.0 * group.sum(1)

    return by_groups(penalties, net, batch, params, plan=plan)


def tightness(lower: Tensor, upper: Tensor, entry: Tensor) -> Tensor:
    """How far a layer's intervals, (n, B, *shape) each, have outgrown the entry's: (n,)."""
    radius = ((upper - lower) / 2).flatten(1).mean(1)
    tiny = torch.finfo(radius.dtype).tiny
    return (TOLERANCE - entry / radius.clamp_min(tiny)).clamp_min(0.0) / TOLERANCE


def balance(lower: Tensor, upper: Tensor) -> Tensor:
    """How unequal a layer's active and inactive neurons weigh, (n,)."""
    centre = ((lower + upper) / 2).flatten(1)
    active, inactive = (lower > 0).flatten(1), (upper < 0).flatten(1)
    squares = (centre - centre.mean(1, keepdim=True)).square()
    shares = [
        ((centre * active).sum(1), -(centre * inactive).sum(1)),
        ((squares * active).sum(1), (squares * inactive).sum(1)),
    ]
    known = torch.stack([inactives > 0 for _, inactives in shares]).all(0)
    terms = [(TOLERANCE - _ratio(a, b)).clamp_min(0.0) / TOLERANCE for a, b in shares]
    return torch.where(known, terms[0] + terms[1], 0.0)


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    """min(r, 1 / r) of r = one / other, both >= 0 and not both 0."""
    larger = torch.maximum(one, other)
    return torch.minimum(one, other) / torch.where(larger > 0, larger, 1.0)
