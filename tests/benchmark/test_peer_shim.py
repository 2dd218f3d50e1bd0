"""Names that newer libraries lack, put in their old place for a while."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gls_es.benchmark import peer_shim


def names() -> tuple[bool, ...]:
    """Which of the names there are."""
    utils, helper = (importlib.import_module(f"torch.onnx.{name}") for name in ("utils", "symbolic_helper"))
    places = ((utils, "_optimize_graph"), (helper, "_set_opset_version"), (torch._C.Node, "__getitem__"))
    return ("numpy.lib.arraysetops" in sys.modules, *(hasattr(owner, name) for owner, name in places))


def test_they_work_inside_and_are_gone_afterwards() -> None:
    before = names()
    with peer_shim.older_names():
        assert all(names())
        isin = importlib.import_module("numpy.lib.arraysetops").isin
        assert isin([1, 5], [5, 7]).tolist() == np.isin([1, 5], [5, 7]).tolist()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch is about to drop tracing
            trace, _ = torch.jit._get_trace_graph(nn.Conv2d(1, 2, 3, stride=2, padding=1), (torch.ones(1, 1, 8, 8),))
        importlib.import_module("torch.onnx.symbolic_helper")._set_opset_version(12)
        export = torch.onnx.OperatorExportTypes.ONNX_ATEN_FALLBACK
        graph = importlib.import_module("torch.onnx.utils")._optimize_graph(trace, export, params_dict={})
        (conv,) = graph.nodes()
        assert conv.kind() == "onnx::Conv"
        assert (conv["strides"], conv["pads"], conv["group"]) == ([2, 2], [1, 1, 1, 1], 1)
    assert names() == before


def test_what_there_is_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = importlib.import_module("torch.onnx.utils")
    monkeypatch.setattr(utils, "_optimize_graph", "its own", raising=False)
    with peer_shim.older_names():
        assert utils._optimize_graph == "its own"
    assert utils._optimize_graph == "its own"


def test_they_are_taken_away_after_a_failure() -> None:
    before = names()
    with pytest.raises(ZeroDivisionError), peer_shim.older_names():
        raise ZeroDivisionError
    assert names() == before


def test_its_import_changes_nothing_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys, warnings\nwarnings.simplefilter('once')\nsys.stdout.write('hello')\n"
    (tmp_path / "auto_LiRPA.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "auto_LiRPA", raising=False)
    filters = list(warnings.filters)
    assert peer_shim.load().__name__ == "auto_LiRPA"
    sys.modules.pop("auto_LiRPA")
    assert list(warnings.filters) == filters
    assert capsys.readouterr() == ("", "hello")
