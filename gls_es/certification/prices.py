"""What a neuron's relaxation costs in the end: which to split, and which bounds to compute anew.

If the upper line of a neuron came closer by d, a row's bound would rise: at once, as the row's pass meets that line,
and through all later layers, whose bounds would be tighter. The price is the derivative of the rows' bounds by d, by
automatic differentiation through all these passes. A split takes the line's height h = -u l / (u - l) away on both
sides, so price times h is about what it gains. (Scores that look at what a split does to later bounds are also in
VeriNet, Henriksen and Lomuscio 2021; BaBSR looks at the row's own pass alone.)
"""

from __future__ import annotations

from dataclasses import replace

import torch

from gls_es.bounds.nodes import backward_margins, backward_rows
from gls_es.bounds.query import Query
from gls_es.certification.dual import Layers, adaptive_slopes
from gls_es.certification.shared import MOST_NEURONS, Shared, lines_with, unstable_units

LEAST = 1e-9
"""The price of what seems to cost nothing, relative to the greatest one: something has to be split in the end."""


def prices(query: Query, shared: Shared) -> Layers:
    """What an upper line's distance costs the open rows of a box together, >= 0, (1, *shape) float64 by ReLU.

    Args:
        query: one box, one member, bounds of all ReLUs and no model of rounding. Its lines become others.
        shared: the slopes with which layers are bounded.
    """
    known = dict(query.bounds)
    moved = {i: torch.zeros_like(low[0], requires_grad=True) for i, (low, _) in known.items()}
    with torch.enable_grad():
        for relu in query.relus:
            if relu in shared:
                _draw(query, shared[relu], moved)
                _make_depend(query, relu)
        _draw(query, {i: adaptive_slopes(query.node(i), *(v[0] for v in known[i])) for i in query.relus}, moved)
        rows = backward_margins(query, torch.zeros(1, dtype=torch.int64))
        lost = -rows[rows <= 0].sum()
        found = torch.autograd.grad(lost, list(moved.values()), allow_unused=True)
    query.bounds = known
    costs = [torch.zeros_like(v) if g is None else g.clamp(min=0) for v, g in zip(moved.values(), found, strict=True)]
    least = LEAST * max([float(cost.max()) for cost in costs], default=0.0) + torch.finfo(torch.float32).tiny
    return {i: cost.double().clamp(min=least) for i, cost in zip(moved, costs, strict=True)}


def _draw(query: Query, slopes: Layers, moved: Layers) -> None:
    """Lines with these slopes, the upper ones moved up by what the prices are asked of."""
    for relu, value in slopes.items():
        half = 0.5 * moved[relu][None]
        lines = lines_with(query, relu, value.detach())
        lines = replace(lines, mean_offset=lines.mean_offset + half, half_offset=lines.half_offset + half)
        query.set_lines(relu, lines)


def _make_depend(query: Query, relu: int) -> None:
    """Let the bounds of unstable neurons vary with the lines before them, their values left as they are."""
    low, up = (side[0].flatten(1) for side in query.bounds[relu])
    units = unstable_units(low, up, most=MOST_NEURONS)
    if units is None:
        return
    places, rows = units
    reach = backward_rows(query, query.source(relu), torch.cat([rows, -rows], dim=1)[None])[0]
    above, below = (reach - reach.detach()).chunk(2, dim=1)
    shape = query.bounds[relu][0].shape
    up, low = up.scatter_add(1, places, above), low.scatter_add(1, places, -below)
    query.bounds[relu] = low.reshape(shape), up.reshape(shape)
