"""Timing of population bounds against the plain loop over members, in one process."""

from __future__ import annotations

from gls_es.benchmark.comparison import LOOPS, Sizes
from gls_es.benchmark.runner import METHODS, benchmark, benchmark_network
from gls_es.benchmark.subject import open_problem

__all__ = ["LOOPS", "METHODS", "Sizes", "benchmark", "benchmark_network", "open_problem"]
