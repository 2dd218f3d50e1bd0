"""What a query needs of activations other than ReLU: their images, lines, and what execution and rounding change."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gls_es.bounds.relaxation import Lines, LowerSlope, one, same, zero
from gls_es.bounds.tangents import enclosing_lines
from gls_es.network.activations.curve import Curve
from gls_es.network.activations.table import curve
from gls_es.network.graph import Activation, Node

_PLACES: dict[LowerSlope, float | None] = {same: None, zero: 0.0, one: 1.0}
"""Where the lower line touches the lower envelope, by the rule that chooses ReLU's; in the middle by any other rule.

For ReLU the touching lines at both ends have the slopes 0 and 1, and the one in the middle has the adaptive slope.
"""


def curve_of(node: Node) -> Curve | None:
    """The function of an activation that is not ReLU; None for any other node."""
    return curve(node.kind, node.constants) if isinstance(node, Activation) else None


def enclosed(f: Curve, lower: Tensor, upper: Tensor, base: Tensor | None, rule: LowerSlope) -> Lines:
    """The lines of f on [lower, upper], see :func:`~gls_es.bounds.tangents.enclosing_lines`."""
    return enclosing_lines(f, lower, upper, base, _PLACES.get(rule, 0.5))


def image(node: Node, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest output of a nonlinear node for inputs in [lower, upper]."""
    f = curve_of(node)
    return (torch.relu(lower), torch.relu(upper)) if f is None else f.image(lower, upper)


def crooked(node: Node, lower: Tensor, upper: Tensor) -> Tensor:
    """Where a nonlinear node is no line on [lower, upper], bool: there its bounds depend on both ends."""
    f = curve_of(node)
    return (lower < 0) & (upper > 0) if f is None else f.crooked(lower, upper)


def execution_error(
    f: Curve, lower: Tensor, upper: Tensor, rounding: Callable[[Tensor, int], Tensor], guard: float
) -> Tensor:
    """How far an executed value of f may be from the real one, and how far computing its bounds may be off.

    The second is the query's relative guard of everything that bounds of f are made of.
    """
    own = f.largest(lower, upper) + f.steepest * torch.maximum(lower.abs(), upper.abs())
    return rounding(f.largest(lower, upper), f.roundings) + f.slack + guard * own
