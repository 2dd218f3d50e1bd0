"""What heights of the last two layers of ReLUs cost rows of a box, without the backward passes that ``prices`` makes.

Behind the last ReLUs all is affine, so a height there costs a row minus its coefficient, where that is negative. A
height of the layer before costs as much by the coefficient that a row has once it went through the last ReLUs' lines;
and it widens the bounds [l, u] of every last ReLU's input, by the positive weights above and the negative ones below,
whose height h = -l u / (u - l) grows by l² / (u - l)² and u² / (u - l)² of that. (The line itself moves by more or less
away from 0, so the second is a guess.) What lower lines lose is left out: they are chosen by the bounds that are known,
which have to be good ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gls_es.bounds.nodes import margin_rows
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import adaptive
from gls_es.certification.dual import Layers
from gls_es.network.graph import Nonlinear, ReLU
from gls_es.network.layers import propagate, reached


def last_prices(query: Query, wanted: Tensor, known: Mapping[int, tuple[Tensor, Tensor]]) -> Layers:
    """What upper lines of the last two ReLUs cost the rows of boxes, >= 0, (N, *shape) by ReLU.

    Args:
        query: one member, N boxes; nothing is changed.
        wanted: which rows count, (N, R) bool.
        known: bounds of the last ReLU's inputs, (N, *shape) each, by ReLU.

    Returns:
        The last ReLU's prices, and if N is 1 those of the ReLU before; empty without ReLUs.
    """
    if not query.relus or not all(isinstance(query.node(relu), ReLU) for relu in query.relus):
        return {}
    last, output = query.relus[-1], query.graph.output
    rows = -margin_rows(torch.zeros(1, dtype=torch.int64), query.node(output).shape[0], query.box.centre)[0, 0]
    start, values = _affine(query, last, propagate)
    own = _pulled_back(values[output], start, rows)
    price = (wanted.to(own) @ own.neg().clamp(min=0)).reshape(-1, *query.node(last).shape)
    found = {last: price}
    if len(wanted) == 1 and len(query.relus) > 1:
        found[query.relus[-2]] = _second(query, (price, own[wanted[0]], rows[wanted[0]]), known[last])
    return found


def _second(query: Query, after: tuple[Tensor, Tensor, Tensor], known: tuple[Tensor, Tensor]) -> Tensor:
    """The prices of the last ReLU but one, (1, *shape), from the last one's and the coefficients of rows there."""
    price, own, rows = after
    before, last, output = query.relus[-2], query.relus[-1], query.graph.output
    source = query.source(last)
    start, values = _affine(query, before, propagate)
    origin, sizes = _affine(query, before, reached)
    low, up = (side.flatten(1) for side in known)
    gap = torch.where((low < 0) & (up > 0), up - low, torch.inf)
    above, below = price.flatten(1) * (low / gap) ** 2, price.flatten(1) * (up / gap) ** 2
    slope = torch.where(gap.isfinite(), up / gap, (low >= 0).to(low))
    through = own.clamp(min=0) * adaptive(low, up, slope) + own.clamp(max=0) * slope
    found = torch.zeros_like(start)
    if source in values:
        wider = _pulled_back(sizes[source], origin, above + below) + _pulled_back(values[source], start, above - below)
        direct = _pulled_back(values[source], start, through)
        if output in values:
            direct = direct + _pulled_back(values[output], start, rows)
        found = wider / 2 + direct.neg().clamp(min=0).sum(dim=0, keepdim=True)
    return found.reshape(1, *query.node(before).shape).clamp(min=0)


def _affine(query: Query, start: int, through: Callable[..., Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
    """A zero output of a ReLU, and every node behind it that moves with it by affine nodes alone."""
    zero = torch.zeros(1, 1, *query.node(start).shape, dtype=query.box.centre.dtype, requires_grad=True)
    values: dict[int, Tensor] = {start: zero}
    with torch.enable_grad():
        for index in range(start + 1, query.graph.output + 1):
            node = query.node(index)
            before = [values.get(i) for i in node.inputs]
            if not isinstance(node, Nonlinear) and any(value is not None for value in before):
                values[index] = through(query.layers[index], node, before)
    return zero, values


def _pulled_back(value: Tensor, start: Tensor, rows: Tensor) -> Tensor:
    """Coefficients (R, F) on the start, for coefficients (R, ...) on a value that is linear in it."""
    flat = value.flatten()
    found = [torch.autograd.grad(flat, start, row, retain_graph=True)[0].flatten() for row in rows]
    return torch.stack(found) if found else start.new_zeros(0, start.numel())
