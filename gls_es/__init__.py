"""gls-es: networks with provable L∞ robustness, trained by evolution strategies on tight convex relaxations.

The names below are imported on first use, so that ``import gls_es`` (and ``gls-es --help``) loads neither torch nor
evotorch.
"""

from __future__ import annotations

import importlib
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

from gls_es.basics.version import __version__ as __version__

_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "cli" / "__init__.py").is_file():
    __path__.append(str(_root))  # a checkout keeps cli/ and problems/ beside gls_es/

if TYPE_CHECKING:
    from gls_es import bounds as bounds
    from gls_es import errors as errors
    from gls_es import formats as formats
    from gls_es import losses as losses
    from gls_es.certification import CertificationReport as CertificationReport
    from gls_es.certification import certify as certify
    from gls_es.data import Dataset as Dataset
    from gls_es.errors import GlsEsError as GlsEsError
    from gls_es.network import Lighting as Lighting
    from gls_es.network import Network as Network
    from gls_es.network import Normalize as Normalize
    from gls_es.problem import CertifiedTrainingProblem as CertifiedTrainingProblem
    from gls_es.searchers import RGS as RGS
    from gls_es.training import Recipe as Recipe
    from gls_es.training.handed import train as train
    from gls_es.training.trained import load as load

_LAZY = {
    "CertificationReport": "gls_es.certification",
    "CertifiedTrainingProblem": "gls_es.problem",
    "Dataset": "gls_es.data",
    "GlsEsError": "gls_es.errors",
    "Lighting": "gls_es.network",
    "Network": "gls_es.network",
    "Normalize": "gls_es.network",
    "RGS": "gls_es.searchers",
    "Recipe": "gls_es.training",
    "certify": "gls_es.certification",
    "load": "gls_es.training.trained",
    "train": "gls_es.training.handed",
}
_MODULES = frozenset({"bounds", "certification", "data", "errors", "formats", "losses", "searchers", "training"})

__all__ = [
    "RGS",
    "CertificationReport",
    "CertifiedTrainingProblem",
    "Dataset",
    "GlsEsError",
    "Lighting",
    "Network",
    "Normalize",
    "Recipe",
    "bounds",
    "certify",
    "errors",
    "formats",
    "load",
    "losses",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gls_es.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'gls_es' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
