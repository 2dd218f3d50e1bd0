"""Certified training as an EvoTorch problem: what a user subclasses, its recipe and options, its name.

``CertifiedTrainingProblem`` is imported on first use: the registry and recipes need neither torch nor evotorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gls_es.problem.problem import CertifiedTrainingProblem as CertifiedTrainingProblem

__all__ = ["CertifiedTrainingProblem"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("gls_es.problem.problem"), name)
    raise AttributeError(f"module 'gls_es.problem' has no attribute {name!r}")
