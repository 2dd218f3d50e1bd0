"""The steps of bounds, compiled for processors: used where they are built, and never the only way.

Set ``GLS_ES_KERNELS=off`` to do without. This room knows tensors and nothing else of gls_es.
"""

from gls_es.kernels.chain import Chain, Map, Op, fits
from gls_es.kernels.gradients import differentiable
from gls_es.kernels.library import LEVELS, SWITCH, available, level, plain, which
from gls_es.kernels.lines import RULES, lines
from gls_es.kernels.push import MOST_SLOTS, Push, Sweep

__all__ = [
    "LEVELS",
    "MOST_SLOTS",
    "RULES",
    "SWITCH",
    "Chain",
    "Map",
    "Op",
    "Push",
    "Sweep",
    "available",
    "differentiable",
    "fits",
    "level",
    "lines",
    "plain",
    "which",
]
