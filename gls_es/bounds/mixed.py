"""CROWN-IBP mixed with IBP: the margins that CROWN-IBP training anneals (Zhang et al. 2020, arXiv 1906.06316).

With lower bounds m of the margins the mixture is β m_crown-ibp + (1 - β) m_ibp, a lower bound as well. Both share the
intervals of the pre-activations.
"""

from __future__ import annotations

from torch import Tensor

from gls_es.bounds.crown_ibp import CROWN_IBP
from gls_es.bounds.ibp import IBP
from gls_es.bounds.method import Method
from gls_es.bounds.query import Query


def mixed_crown_ibp(weight: float) -> Method:
    """The relaxation with weight β = ``weight`` in [0, 1] on CROWN-IBP; 0 is ``ibp``, 1 is ``crown-ibp``."""
    if weight == 0.0:
        return IBP
    if weight == 1.0:
        return CROWN_IBP

    def margins(query: Query, labels: Tensor) -> Tensor:
        return weight * CROWN_IBP.margins(query, labels) + (1.0 - weight) * IBP.margins(query, labels)

    summary = f"{weight:g} crown-ibp + {1.0 - weight:g} ibp"
    return Method("mixed-crown-ibp", summary, CROWN_IBP.preactivations, margins, CROWN_IBP.passes, balls=True)
