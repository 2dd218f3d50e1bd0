"""Loads auto_LiRPA beside libraries that are newer than it. For benchmarks only.

Version 0.3 is the latest on PyPI, of 2022, and asks for names that PyTorch and NumPy have moved or dropped since. While
it is imported, and while it reads a module's graph, those that are missing are put in their old place; afterwards they
are taken away again. Bounds are computed by its own code, unchanged.

=========================================  ==================================================================
``numpy.lib.arraysetops.isin``             imported, never called; now only ``numpy.isin``
``torch.onnx.utils._optimize_graph``       lowers a trace to ONNX operators; moved within the exporter's internals
``symbolic_helper._set_opset_version``     the version of these operators; now a setting there
``torch._C.Node.__getitem__``              an attribute of a graph's node by name; dropped
=========================================  ==================================================================
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

import torch

_ARRAY_SETS = "numpy.lib.arraysetops"
_EXPORTER = "torch.onnx._internal.torchscript_exporter"


def load() -> ModuleType:
    """The package.

    Raises:
        Exception: whatever its import raises; ``ModuleNotFoundError`` with ``name == "auto_LiRPA"`` if there is none.
    """
    # Its import sets a warning filter of the process, and a log on standard output, which may be meant for JSON.
    with older_names(), warnings.catch_warnings(), redirect_stdout(sys.stderr):
        return importlib.import_module("auto_LiRPA")


@contextmanager
def older_names() -> Iterator[None]:
    """The names of the table above, where they are missing, for as long as this lasts."""
    with ExitStack() as stack:
        _supply_module(stack)
        utils, helper = (importlib.import_module(f"torch.onnx.{name}") for name in ("utils", "symbolic_helper"))
        if not hasattr(utils, "_optimize_graph"):
            _supply(stack, utils, "_optimize_graph", importlib.import_module(f"{_EXPORTER}.utils")._optimize_graph)
        _supply(stack, helper, "_set_opset_version", _set_opset_version)
        _supply(stack, torch._C.Node, "__getitem__", _attribute)
        yield


def _supply(stack: ExitStack, owner: Any, name: str, value: object) -> None:
    if not hasattr(owner, name):
        setattr(owner, name, value)
        stack.callback(delattr, owner, name)


def _supply_module(stack: ExitStack) -> None:
    try:
        importlib.import_module(_ARRAY_SETS)
    except ModuleNotFoundError:
        stand_in = ModuleType(_ARRAY_SETS)
        stand_in.isin = importlib.import_module("numpy").isin  # type: ignore[attr-defined]
        sys.modules[_ARRAY_SETS] = stand_in
        stack.callback(sys.modules.pop, _ARRAY_SETS, None)


def _set_opset_version(version: int) -> None:
    importlib.import_module(f"{_EXPORTER}._globals").GLOBALS.export_onnx_opset_version = version


def _attribute(node: Any, name: str) -> Any:
    """A node has one accessor for each kind of attribute, called like the kind."""
    return getattr(node, node.kindOf(name))(name)
