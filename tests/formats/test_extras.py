"""Without the optional libraries: one sentence that says what to install."""

import sys
from pathlib import Path

import pytest
from torch import nn

from gls_es.errors import ConfigError
from gls_es.formats import load_onnx, read_safetensors, save_onnx
from gls_es.network import Network


@pytest.mark.parametrize("name", ["onnx", "safetensors"])
def test_what_to_install(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name, f"{name}.torch"]:
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        (load_onnx if name == "onnx" else read_safetensors)(tmp_path / "file")
    assert f"pip install 'gls-es[{name}]'" in str(caught.value)


def test_without_onnxruntime_nothing_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr("gls_es.formats.onnx_writing.installed", lambda name: False)
    assert save_onnx(Network(nn.Linear(3, 2), (3,)), tmp_path / "net.onnx") is False
    monkeypatch.setattr("gls_es.formats.onnx_reading.installed", lambda name: False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert load_onnx(tmp_path / "net.onnx").network.num_classes == 2
