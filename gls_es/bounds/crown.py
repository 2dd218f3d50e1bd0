"""``crown`` (alias ``deeppoly``): a backward pass to the input for every pre-activation layer and for the margins.

CROWN (Zhang et al. 2018) and DeepPoly (Singh et al. 2019) are the same bounds. Every neuron of every layer is bounded
by its own backward pass; nothing is intersected with intervals. What is put in place of an unstable ReLU's lower side
makes four methods:

========== ===================================== ======================================================
name       lower slope                           of the paradox table (arXiv 2102.06700)
========== ===================================== ======================================================
crown      1 iff u > -l, else 0 (adaptive)       CROWN / DeepPoly: tightness 3.36, discontinuous, sensitive
crown-same u / (u - l), the upper line's         DeepZ / CAP / Fast-Lin: 3.00, continuous, sensitive
crown-zero 0                                     --
crown-one  1                                     --
========== ===================================== ======================================================

The slope holds in the intermediate passes, too.
"""

from __future__ import annotations

from gls_es.bounds.method import Method, fill
from gls_es.bounds.nodes import backward_bounds, backward_margins
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import LowerSlope, adaptive, one, same, zero


def _crown(name: str, summary: str, rule: LowerSlope) -> Method:
    def preactivations(query: Query) -> None:
        fill(query, backward_bounds, rule)

    return Method(name, summary, preactivations, backward_margins, balls=True)


CROWN = _crown("crown", "a backward pass for every layer, adaptive lower slopes (= DeepPoly)", adaptive)
CROWN_SAME = _crown("crown-same", "as crown, lower slope = upper slope (= DeepZ)", same)
CROWN_ZERO = _crown("crown-zero", "as crown, lower slope 0", zero)
CROWN_ONE = _crown("crown-one", "as crown, lower slope 1", one)
