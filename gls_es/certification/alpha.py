"""``alpha``: α-CROWN with fixed pre-activation bounds, on the margins that are still open.

Lower slopes of unstable neurons are optimised for each margin of each image, started from the better of the adaptive
and the zero slopes (Xu et al., arXiv 2011.13824). The limit of the ascent is the triangle relaxation's linear program
with the same pre-activation bounds (Salman et al., arXiv 1902.08722), which no choice of slopes exceeds. The search
runs in float32 without guards; what counts is the bound of the slopes it found, computed anew with guards.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.certification.ascent import Ascent, ascend, with_best_start
from gls_es.certification.dual import Balls, Goals

ASCENT = Ascent(steps=30)
"""The ascent of the stage: about nine tenths of what more steps would gain."""

CURVED_RATE = 0.3
"""How much slower slopes are climbed where some activations are no ReLUs: 1 stands for all slopes that a curve has."""

_TENSORS = 48
"""Tensors of a goal's values that an ascent holds at once, gradients included, by estimate."""


def goals_at_once(balls: Balls, budget: int) -> int:
    """How many goals may be climbed together within ``budget`` bytes, at least 1."""
    query = balls.search
    values = sum(math.prod(node.shape) for node in query.graph.nodes)
    return max(1, budget // (values * _TENSORS * query.box.centre.element_size()))


def open_margins(lower: Tensor, *, most: int) -> list[tuple[Tensor, Tensor]]:
    """Places (image, column) of the margins (B, K-1) without a positive bound, at most ``most`` at once."""
    image, column = (~(lower.isfinite() & (lower > 0))).nonzero(as_tuple=True)
    return list(zip(image.split(most), column.split(most), strict=True)) if len(image) else []


def alpha_margins(
    balls: Balls, lower: Tensor, *, budget: int, ascent: Ascent = ASCENT, deadline: Deadline = NEVER
) -> Tensor:
    """Lower bounds of the margins raised by optimised slopes.

    Args:
        balls: the images' balls.
        lower: what is proven already, (B, K-1), float64; margins with a positive bound are left alone.
        budget: bytes that may be used.
        ascent: how the slopes are optimised.
        deadline: when margins that are not begun are left as they are.

    Returns:
        (B, K-1), float64, nowhere below ``lower``; they hold for the executed network.
    """
    raised = lower.clone()
    for image, column in open_margins(lower, most=goals_at_once(balls, budget)):
        if deadline.late():
            break
        goals = climbed(balls, balls.goals(image, column), ascent, deadline=deadline)
        bounds = balls.proven_bounds(goals)
        known = raised[image, column]
        raised[image, column] = torch.where(bounds.isfinite(), torch.maximum(known, bounds), known)
    return raised


def climbed(balls: Balls, goals: Goals, ascent: Ascent, *, deadline: Deadline = NEVER) -> Goals:
    """Unsplit goals with slopes optimised until the deadline."""
    start = with_best_start(balls, balls.lower_bounds, goals, deadline)
    if goals.curved:
        ascent = replace(ascent, slope_rate=CURVED_RATE * ascent.slope_rate)
    return ascend(balls.lower_bounds, start, ascent, deadline)[0]
