"""Where datasets are looked for: argument, then environment, then ./data."""

from __future__ import annotations

from pathlib import Path

import pytest

from gls_es.data import default_root, load_cifar10, load_fashion_mnist, load_mnist
from gls_es.errors import DataError


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GLS_ES_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_argument_wins_then_the_variable_then_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("given", "variable"):
        (tmp_path / name).mkdir()
    assert default_root() == Path("data")
    monkeypatch.setenv("GLS_ES_DATA", str(tmp_path / "variable"))
    assert default_root() == tmp_path / "variable"
    assert default_root(tmp_path / "given") == tmp_path / "given"
    assert default_root(str(tmp_path / "given")) == tmp_path / "given"
    monkeypatch.setenv("GLS_ES_DATA", "")
    assert default_root() == Path("data")


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sets").mkdir()
    assert default_root("~/sets") == tmp_path / "sets"


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist, load_cifar10])
def test_a_root_that_is_no_folder(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="data root given, 'file', is not a folder"):
        load("file")
    with pytest.raises(DataError, match="'nowhere', does not exist"):
        load("nowhere")
    monkeypatch.setenv("GLS_ES_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"data root in GLS_ES_DATA, .* is not a folder"):
        load()
    monkeypatch.delenv("GLS_ES_DATA")
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match=r"\./data, 'data', is not a folder"):
        load()


@pytest.mark.parametrize("load", [load_mnist, load_cifar10])
def test_without_any_root_the_message_says_what_to_do(load) -> None:
    with pytest.raises(DataError, match=r"(MNIST/raw|cifar-10-batches-bin).*--data or GLS_ES_DATA"):
        load()
