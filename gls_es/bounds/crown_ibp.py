"""``crown-ibp``: intervals for the pre-activations, one backward pass for the margins (Zhang et al. 2020).

Without loss fusion (the row "CROWN-IBP (R)" of arXiv 2102.06700: tightness 2.15, discontinuous, sensitive). Neither
always tighter nor always looser than ``ibp`` or ``crown``. The lower slope is the adaptive one.
"""

from __future__ import annotations

from gls_es.bounds.method import Method, fill
from gls_es.bounds.nodes import backward_margins, interval_bounds
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import adaptive


def preactivations(query: Query) -> None:
    """Intervals for every ReLU, and the lines for the last pass."""
    fill(query, interval_bounds, adaptive)


CROWN_IBP = Method("crown-ibp", "intervals, then one backward pass", preactivations, backward_margins, passes="last")
