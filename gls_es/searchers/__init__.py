"""Searchers: EvoTorch's PGPE with a leaner population, and RGS and plain gradient descent in the same vocabulary."""

from gls_es.problem.evotorch_classes import Problem as _Problem  # noqa: F401  # EvoTorch, before the others need it
from gls_es.searchers.pgpe import with_lean_population as with_lean_population
from gls_es.searchers.rgs import RGS as RGS
from gls_es.searchers.table import DEFAULTS as DEFAULTS
from gls_es.searchers.table import SEARCHERS as SEARCHERS
from gls_es.searchers.table import build as build
