"""``alpha-layers``: optimised slopes for the bounds of unstable neurons, too, and then for the margins again.

Pre-activation bounds decide how loose every ReLU's lines are. Each side of each unstable neuron is a goal of its own:
its slopes are climbed as those of a margin are, and the guarded bound that they give replaces the old one if it is
tighter. Layers go in order, so a layer profits from those before it. Dear, and no default: where few layers have
unstable neurons it gains little.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.certification.alpha import goals_at_once
from gls_es.certification.ascent import Ascent, ascend, with_best_start
from gls_es.certification.dual import Balls, Goals, dual_bounds

ASCENT = Ascent(steps=20)
"""The ascent of every neuron's bounds."""
MOST_NEURONS = 1024
"""Neurons of an image and layer whose bounds are optimised at most: those that reach farthest to both sides."""


def tighter(balls: Balls, *, budget: int, deadline: Deadline = NEVER) -> Balls:
    """The balls with optimised bounds of unstable neurons behind the first ReLU; before it there are no slopes.

    Args:
        balls: the balls.
        budget: bytes that may be used.
        deadline: when the bounds that are not begun are left as they are.
    """
    for relu in balls.search.relus:
        if balls.search.regions.after_relu[balls.search.source(relu)]:
            balls = _tighter_layer(balls, relu, budget, deadline)
    return balls


def _tighter_layer(balls: Balls, relu: int, budget: int, deadline: Deadline) -> Balls:
    lower, upper = (side.clone() for side in balls.proof.bounds[relu])
    image, neuron = _worst(lower, upper)
    if len(image) == 0:
        return balls
    most = goals_at_once(balls, budget)
    for sign, side in ((1.0, lower), (-1.0, upper)):
        flat = side[0].flatten(1)
        for images, neurons in zip(image.split(most), neuron.split(most), strict=True):
            if deadline.late():
                break
            proven = sign * _climbed(balls, relu, images, neurons, sign, deadline)
            known = flat[images, neurons]
            better = torch.maximum(known, proven) if sign > 0 else torch.minimum(known, proven)
            flat[images, neurons] = torch.where(proven.isfinite(), better, known)
        side[0] = flat.reshape(side[0].shape)
    return balls.tightened(relu, lower, torch.maximum(lower, upper))


def _worst(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Places (image, neuron) of unstable neurons."""
    width = torch.minimum(-lower, upper)[0].flatten(1)
    if width.shape[1] > MOST_NEURONS:
        least = width.topk(MOST_NEURONS, dim=1).values[:, -1:]
        width = width.masked_fill(width < least, 0.0)
    image, neuron = (width > 0).nonzero(as_tuple=True)
    return image, neuron


def _climbed(balls: Balls, relu: int, image: Tensor, neuron: Tensor, sign: float, deadline: Deadline) -> Tensor:
    """Guarded lower bounds of sign · z for some neurons, (D,), float64."""
    start = balls.search.source(relu)
    goals = balls.goals(image, neuron)
    wanted = balls.rows.new_zeros(len(image), balls.proof.bounds[relu][0][0, 0].numel())
    wanted[torch.arange(len(image), device=image.device), neuron] = -sign

    def bound(current: Goals) -> Tensor:
        return dual_bounds(balls.search, wanted, current, start=start)

    found, _ = ascend(bound, with_best_start(balls, bound, goals, deadline), ASCENT, deadline)
    with torch.no_grad():
        return dual_bounds(balls.proof, wanted, found, start=start)
