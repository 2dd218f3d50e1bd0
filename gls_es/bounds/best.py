"""``best``: the elementwise maximum of what the other bounds prove; what certification can rely on.

Six sets of pre-activation bounds: intervals; ``crown`` with adaptive and with zero lower slopes; both again with every
layer intersected with intervals; and the intersection of these five, which are the method's pre-activations. From each
a backward pass bounds the margins, with the lower slope that the set was made with (with both where that was none), and
intervals do from the last. So it is never below ``ibp``, ``crown-ibp``, ``crown``, ``crown-zero`` or
``crown-intersect``. All are needed: tighter bounds can flip an adaptive slope and loosen what follows, on networks
trained with intervals zero slopes beat adaptive ones, and there ``crown`` can even be below ``ibp``.

Costs about five times ``crown``. Not a row of the paradox table (arXiv 2102.06700); a maximum of
discontinuous and sensitive bounds, so meant for certifying, not for training.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from gls_es.bounds.intersect import intersected_bounds, intersection
from gls_es.bounds.method import Method, NodeBounds, fill
from gls_es.bounds.nodes import backward_bounds, backward_margins, interval_bounds, interval_margins
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import LowerSlope, adaptive, zero

BOTH: tuple[LowerSlope, ...] = (adaptive, zero)

PARTS: tuple[tuple[NodeBounds, tuple[LowerSlope, ...]], ...] = (
    (interval_bounds, BOTH),
    (backward_bounds, (adaptive,)),
    (backward_bounds, (zero,)),
    (intersected_bounds, (adaptive,)),
    (intersected_bounds, (zero,)),
)
"""How each set of pre-activation bounds is made, and the lower slopes of the passes that follow it."""


def preactivations(query: Query) -> None:
    """The intersection of all parts' bounds of every ReLU's input; the parts are kept for the margins."""
    for relu in query.relus:
        if query.regions.exact[query.source(relu)]:
            query.interval(query.source(relu))  # the parts share it
    query.others = [query.restarted() for _ in PARTS]
    for part, (bound, rules) in zip(query.others, PARTS, strict=True):
        fill(part, bound, rules[0])
    for relu in query.relus:
        query.bounds[relu] = reduce(intersection, (part.bounds[relu] for part in query.others))


def margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j, (G, B, K - 1)."""
    best = interval_margins(query, labels)
    rules = [rules for _, rules in PARTS]
    for part, slopes in zip([*query.others, query], [*rules, BOTH], strict=True):
        for rule in slopes:
            for relu in part.relus:
                part.relax(relu, rule)
            best = torch.maximum(best, backward_margins(part, labels))
    return best


BEST = Method(
    "best", "the best of ibp, crown-ibp and crown, both slopes, with and without intersection", preactivations, margins
)
