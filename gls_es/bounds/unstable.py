"""``crown-unstable``: backward passes for the neurons that intervals leave unstable, intervals for all others.

Layer by layer, intervals from the bounds known so far decide which neurons are stable (l >= 0 or u <= 0). Those keep
their intervals: ReLU's lines for them are exact and do not depend on l and u, so that no pass gains from tighter ones.
Every other neuron is bounded as in ``crown-intersect``: by its own backward pass (adaptive lower slopes), intersected
with its interval. The margins are the elementwise maximum of a backward pass' and the intervals'.

What it equals. A stable neuron's own l and u enter intervals only, never a backward pass. So the margins are

* those of ``crown-intersect`` as long as no interval decides (is tighter than the pass, or proves a neuron stable that
  the pass does not) that would be looser if started here: a stable neuron with l >= 0 passes on its interval, there the
  intersection. The first layer's intervals are exact, so with two layers of ReLUs all unstable neurons' bounds and all
  passes are the same, and only the intervals of the margins can be looser; with one layer nothing can.
* those of ``crown`` where passes are everywhere as tight as intervals, as they mostly are with random weights. Where
  intervals are tighter, as in networks trained with them, they count here and not in ``crown``. That usually helps, and
  can also hurt, as in ``crown-intersect``: tighter bounds of a neuron can flip its adaptive slope.

Never below ``ibp``, whose intervals start from wider values. Which neurons are refined depends on their own member and
image alone. It can change as weights change, but where an interval's end crosses zero the neuron's lines are those of a
stable neuron up to a jump that ``crown`` has, too. So it is discontinuous and sensitive as ``crown`` is; gradients
flow through what was computed.

Not a row of the paradox table (arXiv 2102.06700): CROWN (tightness 3.36 there) where intervals are tighter nowhere.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.bounds.backward import Rows, upper_bounds
from gls_es.bounds.curved import crooked
from gls_es.bounds.intersect import Bounds, intersection, margins
from gls_es.bounds.method import Method, fill
from gls_es.bounds.nodes import chunks, interval_bounds
from gls_es.bounds.patches import Patch
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import adaptive
from gls_es.network.graph import Nonlinear

EVEN = 8
"""The rows of an image are filled up to a multiple of this: both signs of 8 make 16, see ``product.IMAGES``."""


def unstable_bounds(query: Query, index: int) -> Bounds:
    """(l, u) of node ``index``: intervals, intersected with a backward pass where it is unstable; (G, B, *shape)."""
    lower, upper = interval_bounds(query, index)
    if query.regions.exact[index]:
        return lower, upper
    lower, upper = query.for_all(lower), query.for_all(upper)
    unstable = _undecided(query, index, lower, upper).flatten(2)
    most = int(unstable.sum(2).max())
    if most == 0:
        return lower, upper
    parts = []
    for images in chunks(len(query.box), query.plan.image_chunk(query, index, most)):
        parts.append(_refined(query, index, unstable[:, images], images))
        query.forget_seen()
    passes = torch.cat(parts, 2).unflatten(3, query.node(index).shape)
    base = query.base(index)
    refined = (-passes[1], passes[0]) if base is None else (base - passes[1], base + passes[0])
    tighter = intersection((lower, upper), refined)
    mask = unstable.reshape(lower.shape)
    return torch.where(mask, tighter[0], lower), torch.where(mask, tighter[1], upper)


def _undecided(query: Query, index: int, lower: Tensor, upper: Tensor) -> Tensor:
    """Where an activation that reads the node is no line on [lower, upper]: for ReLU, where they enclose 0."""
    found = torch.zeros_like(lower, dtype=torch.bool)
    for reader in query.graph.consumers[index]:
        if isinstance(query.node(reader), Nonlinear):
            found = found | crooked(query.node(reader), lower, upper)
    return found


def _refined(query: Query, index: int, unstable: Tensor, images: slice) -> Tensor:
    """Upper bounds of the unstable neurons of some images and of their negatives, constants left out.

    Args:
        query: what is known so far.
        index: the node.
        unstable: which neurons, (G, B, F) for the images.
        images: which images.

    Returns:
        (2, G, B, F), other numbers of no meaning where a neuron is stable.
    """
    most = int(unstable.sum(2).max())
    if most == 0:
        return query.box.centre.new_zeros(2, *unstable.shape)
    most = -(-most // EVEN) * EVEN
    place = unstable.cumsum(2) - 1
    # the neurons in ascending order, filled up with neuron 0; stable ones go to a last column that is dropped
    neurons = place.new_zeros(*unstable.shape[:2], most + 1)
    every = torch.arange(unstable.shape[2], device=place.device).expand_as(place)
    neurons = neurons.scatter_(2, place.where(unstable, place.new_full((), most)), every)[..., :most]
    rows = chunks(most, query.plan.row_chunk(query, index, most))
    found = [_bounds_of(query, index, neurons[..., part], images) for part in rows]
    return torch.cat(found, 3).gather(3, place.clamp(0, most - 1).expand(2, -1, -1, -1))


def _bounds_of(query: Query, index: int, neurons: Tensor, images: slice) -> Tensor:
    """Upper bounds of the chosen neurons (G, B, U) and of their negatives, constants left out: (2, G, B, U)."""
    shape = query.node(index).shape
    like, members, count = query.box.centre, len(neurons), neurons.shape[2]
    spatial = len(shape) == 3 and shape[1] * shape[2] > 1
    channels, area = (shape[0], shape[1] * shape[2]) if spatial else (math.prod(shape), 1)
    channel = neurons.div(area, rounding_mode="floor")
    units = F.one_hot(channel, channels).to(like.dtype)  # (G, B, U, C)
    if not spatial:
        upper = upper_bounds(query, index, Rows(units, mirrored=True), images)
        return upper.reshape(*upper.shape[:2], 2, count).permute(2, 0, 1, 3)
    rows = Rows(units.reshape(members, -1, 1, channels), Patch((shape[1], shape[2])), mirrored=True)
    upper = upper_bounds(query, index, rows, images, neurons.remainder(area))
    return upper.reshape(*upper.shape[:2], count, 2).permute(3, 0, 1, 2)


def preactivations(query: Query) -> None:
    """Bounds of every ReLU's input, and the lines for what follows."""
    fill(query, unstable_bounds, adaptive)


CROWN_UNSTABLE = Method(
    "crown-unstable",
    "crown for the neurons that intervals leave unstable, intervals for the others",
    preactivations,
    margins,
)
