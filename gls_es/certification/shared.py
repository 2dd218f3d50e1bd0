"""Lower slopes that all neurons of a layer share in the backward passes that bound them.

``alpha-layers`` climbs slopes for every bound of every neuron by itself. Here all bounds of one layer have the same
slopes of the ReLUs before it, and what is narrowed is the sum of the widths of the unstable ones: a hundredth of the
numbers, and a few ordinary passes. (Sharing slopes likewise is an option of auto_LiRPA, Xu et al., arXiv 2011.13824.)
Slopes choose among lines that are all sound, so they are climbed without guards, in the precision of the search.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.bounds.curved import curve_of
from gls_es.bounds.nodes import backward_bounds, backward_rows
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import Lines
from gls_es.certification.alpha import CURVED_RATE
from gls_es.certification.ascent import Ascent, ascend
from gls_es.certification.dual import Balls, Goals, Layers, adaptive_slopes, sloped

ASCENT = Ascent(steps=15, slope_rate=0.1, decay=0.95)
"""The ascent of every layer."""
MOST_NEURONS = 512
"""Neurons of a layer that are narrowed at most: those that reach farthest to both sides."""

Shared = dict[int, Layers]
"""By ReLU, the lower slopes of every ReLU before it in the passes that bound its inputs, (N, *shape) each."""


def lines_with(query: Query, relu: int, slopes: Tensor) -> Lines:
    """Lines of a ReLU with these lower slopes, (N, *shape), around what the query knows of its inputs."""
    low, up = query.bounds[relu]
    return sloped(query.node(relu), low, up, query.base(query.source(relu)), slopes.to(low)[None])


def take(query: Query, slopes: Layers) -> None:
    """Give some ReLUs of a query lines with these lower slopes."""
    for relu, value in slopes.items():
        query.set_lines(relu, lines_with(query, relu, value))


def unstable_units(
    low: Tensor, up: Tensor, *, most: int | None = None, curved: bool = False
) -> tuple[Tensor, Tensor] | None:
    """Unit vectors of unstable neurons, as many for every part as the part with most has.

    Args:
        low: bounds, (N, F).
        up: likewise.
        most: how many to choose at most, those that reach farthest to both sides; None for all.
        curved: the activation is no ReLU: all neurons count, the widest first.

    Returns:
        Places (N, S) and unit vectors (N, S, F), some of stable neurons where a part has fewer; None if S is 0.
    """
    reach = (up - low if curved else torch.minimum(-low, up)).clamp(min=0)
    count = int((reach > 0).sum(dim=1).max()) if len(low) else 0
    count = count if most is None else min(count, most)
    if count == 0:
        return None
    places = reach.topk(count, dim=1).indices
    return places, low.new_zeros(*places.shape, low.shape[1]).scatter_(2, places[..., None], 1.0)


def shared_slopes(query: Query, *, ascent: Ascent = ASCENT, deadline: Deadline = NEVER) -> Shared:
    """Slopes that narrow layer after layer, each with the narrower ones before it.

    Args:
        query: one member with bounds of all ReLUs and no model of rounding. Its bounds become narrower, and its
            lines others.
        ascent: of the slopes of every layer.
        deadline: when layers that are not begun keep the adaptive slopes.
    """
    if not query.graph.only_relus:
        ascent = replace(ascent, slope_rate=CURVED_RATE * ascent.slope_rate)
    found: Shared = {}
    for place, relu in enumerate(query.relus):
        before = query.relus[:place]
        if query.regions.exact[query.source(relu)] or not before:
            continue
        found[relu] = {i: adaptive_slopes(query.node(i), *(side[0] for side in query.bounds[i])) for i in before}
        low, up = (side[0].flatten(1) for side in query.bounds[relu])
        units = unstable_units(low, up, most=MOST_NEURONS, curved=curve_of(query.node(relu)) is not None)
        if units is not None and not deadline.late():
            found[relu] = _narrowed(query, relu, units, found[relu], ascent, deadline)
    return found


def _narrowed(
    query: Query, relu: int, units: tuple[Tensor, Tensor], slopes: Layers, ascent: Ascent, deadline: Deadline
) -> Layers:
    """Slopes with which the widths of some neurons of a layer have a smaller sum; narrows their bounds in the query."""
    places, rows = units
    source, both = query.source(relu), torch.cat([rows, -rows], dim=1)[None]

    def reach(current: Goals) -> Tensor:
        take(query, current.slopes)
        return backward_rows(query, source, both)[0]

    parts = torch.arange(len(places), device=places.device)
    signs = {i: torch.zeros_like(value, dtype=torch.int8) for i, value in slopes.items()}
    none = {i: torch.zeros_like(value) for i, value in slopes.items()}
    goals = Goals(parts, torch.zeros_like(parts), signs, slopes, none)
    best, _ = ascend(lambda current: -reach(current).sum(dim=1), goals, ascent, deadline)
    with torch.no_grad():
        upper, negated = reach(best).chunk(2, dim=1)
    base = query.base(source)
    known = torch.zeros_like(upper) if base is None else base[0].flatten(1).expand(len(places), -1).gather(1, places)
    shape = query.bounds[relu][0].shape
    low, up = (side[0].flatten(1) for side in query.bounds[relu])
    above = torch.minimum(up.gather(1, places), known + upper)
    below = torch.minimum(torch.maximum(low.gather(1, places), known - negated), above)
    low, up = low.scatter(1, places, below), up.scatter(1, places, above)
    query.bounds[relu] = low.reshape(shape), up.reshape(shape)
    return best.slopes


def narrowed_balls(balls: Balls, *, deadline: Deadline = NEVER) -> Balls:
    """The balls with proven bounds of all activations' inputs made narrower by shared slopes.

    Args:
        balls: B images' balls.
        deadline: when layers that are not begun keep the adaptive slopes.
    """
    everything = torch.arange(len(balls.rows), device=balls.rows.device)
    shared = shared_slopes(balls.search.selected(everything), deadline=deadline)
    for relu, slopes in shared.items():
        proof = balls.at(everything).proof
        with torch.no_grad():
            take(proof, slopes)
            low, up = backward_bounds(proof, proof.source(relu))
        known = balls.proof.bounds[relu]
        low = torch.where(low.isfinite(), torch.maximum(known[0], low), known[0])
        up = torch.where(up.isfinite(), torch.minimum(known[1], up), known[1])
        balls = balls.tightened(relu, low, torch.maximum(low, up))
    return balls
