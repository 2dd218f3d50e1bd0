"""A file that a command reads is not written by it, and no two results go into one file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import gls_es

pytest.importorskip("onnx")
Run = Callable[..., Result]
ZOO = Path(gls_es.__file__).with_name("zoo") / "digits-cnn3.pt"
SPEC = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)(assert (>= X_0 0))(assert (<= X_0 1))"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A network and a query about it, a checkpoint, and another name of the network."""
    from tests.formats.hand_made import model, node, numbers, saved

    found = {"net": saved(model([node("MatMul", "x w", "y")], {"w": numbers(0, 1, 2)}, [1, 1]), tmp_path)}
    found["query"] = tmp_path / "query.vnnlib"
    found["query"].write_text(SPEC + "(assert (>= Y_0 100))")
    found["checkpoint"] = tmp_path / "checkpoint.pt"
    shutil.copy(ZOO, found["checkpoint"])
    found["link"] = tmp_path / "link.onnx"
    found["link"].symlink_to(found["net"])
    return found


@pytest.mark.parametrize("command", ["verify", "certify"])
@pytest.mark.parametrize("target", ["net", "query", "link"])
def test_a_result_does_not_replace_what_is_read(run: Run, files: dict[str, Path], command: str, target: str) -> None:
    before = {name: path.read_bytes() for name, path in files.items()}
    net, query = files["net"], files["query"]
    given = [query, "--network", f"N={net}"] if command == "verify" else [net, "--vnnlib", query]
    result = run(command, *given, "--result", files[target])
    assert result.exit_code == 2
    assert "this file is read" in result.output
    assert {name: path.read_bytes() for name, path in files.items()} == before


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("export", ["--onnx", "checkpoint.pt"]),
        ("export", ["--safetensors", "checkpoint.pt"]),
        ("export", ["--onnx", "both", "--safetensors", "both"]),
        ("landscape", ["--out", "checkpoint.pt"]),
    ],
)
def test_checkpoints_are_kept(run: Run, files: dict[str, Path], command: str, options: list[str]) -> None:
    folder = files["checkpoint"].parent
    before = files["checkpoint"].read_bytes()
    given = [word if word.startswith("--") else folder / word for word in options]
    result = run(command, files["checkpoint"], *given)
    assert result.exit_code == 2
    assert "this file is read" in result.output or "names the same file" in result.output
    assert files["checkpoint"].read_bytes() == before
    assert not (folder / "both").exists()
