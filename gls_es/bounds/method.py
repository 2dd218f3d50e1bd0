"""What a relaxation is to the rest: a rule that fills in pre-activation bounds, and one that bounds the margins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import LowerSlope

NodeBounds = Callable[[Query, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Method:
    """A named relaxation.

    Attributes:
        name: what ``method=`` takes.
        summary: one line for tables and help.
        preactivations: fills ``query.bounds`` for every ReLU, in order.
        margins: lower bounds of f_y - f_j, (G, B, K - 1), for labels (B,); called after ``preactivations``.
        passes: which backward passes it makes: "none", "last" (from the margins), or "all"; "forward" if it pushes
            error terms forward instead.
        gradient: whether the margins have a gradient that follows them almost everywhere.
        direct: the same margins in a quicker way that leaves no pre-activations behind and has no gradient, if any;
            used where no gradient is asked for, with an exact executor, unless the plan says otherwise.
        balls: whether it bounds L2 balls, too (``Box.round``).
    """

    name: str
    summary: str
    preactivations: Callable[[Query], None]
    margins: Callable[[Query, Tensor], Tensor]
    passes: str = "all"
    gradient: bool = True
    direct: Callable[[Query, Tensor], Tensor] | None = None
    balls: bool = False


def fill(query: Query, bound: NodeBounds, rule: LowerSlope | None) -> None:
    """Bound every ReLU's input with ``bound``, in order; ``rule`` chooses its lines if backward passes follow."""
    for relu in query.relus:
        lower, upper = bound(query, query.source(relu))
        query.bounds[relu] = query.for_all(lower), query.for_all(upper)
        if rule is not None:
            query.relax(relu, rule)
