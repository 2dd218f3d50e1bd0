"""Timing of population bounds against the plain loop over members, in one process."""

from __future__ import annotations

from gls_es.benchmark.comparison import LOOPS, Sizes
from gls_es.benchmark.estimate import cpu_speed, recipe_seconds
from gls_es.benchmark.glimpse import timed_plan
from gls_es.benchmark.runner import METHODS, benchmark, benchmark_network
from gls_es.benchmark.subject import open_problem

__all__ = [
    "LOOPS",
    "METHODS",
    "Sizes",
    "benchmark",
    "benchmark_network",
    "cpu_speed",
    "open_problem",
    "recipe_seconds",
    "timed_plan",
]
