"""The steps of backward passes, compiled for processors: used where they are built, and never the only way.

Set ``GLS_ES_KERNELS=off`` to do without. This room knows tensors and nothing else of gls_es.
"""

from gls_es.kernels.chain import Chain, Map, Op, fits
from gls_es.kernels.gradients import differentiable
from gls_es.kernels.library import LEVELS, SWITCH, available, level, plain, which
from gls_es.kernels.lines import RULES, lines

__all__ = [
    "LEVELS",
    "RULES",
    "SWITCH",
    "Chain",
    "Map",
    "Op",
    "available",
    "differentiable",
    "fits",
    "level",
    "lines",
    "plain",
    "which",
]
