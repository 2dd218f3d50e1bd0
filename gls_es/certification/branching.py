"""Which neuron to split: BaBSR scores, filtered by bounding the children (kFSB).

BaBSR (Bunel et al., arXiv 1909.06588) estimates from one backward pass how much a goal gains when an unstable neuron
is fixed: with the coefficient A that arrives at the neuron's output, the constant part b of its input, and the upper
line s (z - l), i = -s l, the score is |max(A b (s - 1), A b s) + i min(A, 0)|. A second score is -i min(A, 0), what the
upper line's offset costs now. The best of each is tried (De Palma et al., arXiv 2104.06718): both children are
bounded with their parent's slopes and multipliers, and the neuron whose worse child is best is split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.bounds.curved import curve_of
from gls_es.certification.cells import cell, room, splittable
from gls_es.certification.dual import Balls, Goals, Layers, dual_bounds

CANDIDATES = 1
"""How many neurons each score nominates."""


@dataclass(frozen=True)
class Choice:
    """The neuron to split of each of D goals.

    Attributes:
        neuron: places among all ReLUs' neurons, layer after layer, (D,), int64.
        exists: whether the goal has an unstable neuron at all, (D,), bool.
    """

    neuron: Tensor
    exists: Tensor


def choose(balls: Balls, goals: Goals, *, most: int) -> Choice:
    """The neurons to split.

    Args:
        balls: the images' balls.
        goals: D goals.
        most: how many goals to bound at once.
    """
    unstable = _all(unsplit(balls, goals))
    if unstable.shape[1] == 0:
        return Choice(goals.image, torch.zeros_like(goals.image, dtype=torch.bool))
    estimate, offset = _scores(balls, goals)
    places = []
    for score in (estimate, offset):
        ranked = score.masked_fill(~unstable, -1.0)
        places.append(ranked.topk(min(CANDIDATES, ranked.shape[1]), dim=1).indices)
    candidates = torch.cat(places, dim=1)  # (D, k)
    value = _worse_child(balls, goals, candidates, most=most)
    value = torch.nan_to_num(value, nan=-torch.inf).masked_fill(~unstable.gather(1, candidates), -torch.inf)
    neuron = candidates.gather(1, value.argmax(dim=1, keepdim=True))[:, 0]
    exists = unstable.any(dim=1)
    first = unstable.to(torch.uint8).argmax(dim=1)  # where every value is infinite
    return Choice(torch.where(unstable.gather(1, neuron[:, None])[:, 0], neuron, first), exists)


def unsplit(balls: Balls, goals: Goals) -> Layers:
    """Where neurons are unstable on the part, (D, *shape) bool by ReLU."""
    found = {}
    for relu, (lower, upper) in balls.search.bounds.items():
        ends = lower[0, goals.image], upper[0, goals.image]
        found[relu] = splittable(balls.search.node(relu), *ends, goals.signs[relu])
    return found


def children(goals: Goals, neuron: Tensor) -> Goals:
    """Two goals of each: first all with z >= 0 at the neuron, then all with z <= 0; multipliers start at 0.

    Other activations than ReLU are split where ``certification.cells`` says.
    """
    return _split(goals, neuron, 1).joined(_split(goals, neuron, -1))


def _split(goals: Goals, neuron: Tensor, sign: int) -> Goals:
    signs: Layers = {}
    slopes, multipliers = dict(goals.slopes), dict(goals.multipliers)
    start = 0
    for relu, value in goals.signs.items():
        flat = value.flatten(1).clone()
        inside = (neuron >= start) & (neuron < start + flat.shape[1])
        rows = inside.nonzero()[:, 0]
        places = neuron[rows] - start
        start += flat.shape[1]
        if relu not in goals.curved:
            flat[rows, places] = sign
        elif len(rows):
            flat[rows, places] = 2 * flat[rows, places] + (2 if sign > 0 else 1)
            multiplier = goals.multipliers[relu].flatten(1).clone()
            multiplier[rows, places] = 0.0  # it was that of another split
            multipliers[relu] = multiplier.reshape(value.shape)
            slope = goals.slopes[relu].flatten(1).clone()
            slope[rows, places] = 0.5  # it was how far from the best line of a larger cell
            slopes[relu] = slope.reshape(value.shape)
        signs[relu] = flat.reshape(value.shape)
    return replace(goals, signs=signs, slopes=slopes, multipliers=multipliers)


def _scores(balls: Balls, goals: Goals) -> tuple[Tensor, Tensor]:
    """BaBSR's estimate and the cost of the upper lines' offsets, (D, neurons) each."""
    offsets = {relu: torch.zeros_like(value, requires_grad=True) for relu, value in goals.slopes.items()}
    bounds = dual_bounds(balls.search, balls.wanted(goals), goals, offsets=offsets)
    arrived = torch.autograd.grad(bounds.sum(), list(offsets.values()))
    estimates, costs = {}, {}
    for relu, a in zip(offsets, arrived, strict=True):
        lower, upper = (v[0, goals.image] for v in balls.search.bounds[relu])
        f = curve_of(balls.search.node(relu))
        if f is not None:
            part = cell(balls.search.node(relu), lower, upper, goals.signs[relu])
            estimates[relu] = costs[relu] = a.abs() * room(f, part.lower, part.upper)
            continue
        slope = upper.clamp(min=0) / (upper - lower).clamp(min=torch.finfo(upper.dtype).tiny)
        cost = slope * lower * a.clamp(max=0)  # -i min(A, 0), >= 0 where l < 0
        base = balls.search.base(balls.search.source(relu))
        estimate = -cost
        if base is not None:
            product = a * (base[0, goals.image] if base.shape[1] > 1 else base[0])
            estimate = torch.maximum(product * (slope - 1), product * slope) - cost
        estimates[relu], costs[relu] = estimate.abs(), cost
    return torch.nan_to_num(_all(estimates)), torch.nan_to_num(_all(costs))


@torch.no_grad()
def _worse_child(balls: Balls, goals: Goals, candidates: Tensor, *, most: int) -> Tensor:
    """The lesser of both children's bounds for every candidate (D, k)."""
    count = candidates.shape[1]
    parent = torch.arange(len(goals), device=candidates.device).repeat_interleave(count)
    values = []
    for rows, neurons in zip(parent.split(most), candidates.flatten().split(most), strict=True):
        own = goals.at(rows)
        sides = [balls.lower_bounds(_split(own, neurons, sign)) for sign in (1, -1)]
        values.append(torch.minimum(*sides))
    return torch.cat(values).reshape(len(goals), count)


def _all(layers: Layers) -> Tensor:
    """Every ReLU's values side by side, (D, neurons)."""
    if not layers:
        return torch.zeros(0, 0)
    return torch.cat([value.flatten(1) for value in layers.values()], dim=1)
