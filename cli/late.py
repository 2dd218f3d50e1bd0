"""Libraries that other libraries import and gls-es does not need: they are imported when something in them is used."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


class _Late(ModuleType):
    """A module whose code has not run. ``importlib.util.LazyLoader`` would run it at the first ``import`` already."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # whoever looks through sys.modules asks for these
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations
        spec.loader.exec_module(self)
        return getattr(self, name)


def import_late(name: str) -> None:
    """Let ``import name`` find a module whose code runs at the first use of something in it.

    Args:
        name: of a top-level module; one that is not installed, or imported already, is left alone.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    vars(module).pop("__path__", None)  # or a submodule could be imported before its package
    module.__class__ = _Late
    sys.modules[name] = module
