"""``gls-es verify --instances``: whole benchmarks, row after row, and on where they were stopped."""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result

from gls_es.cli import instances
from tests.formats.hand_made import model, node, saved

Run = Callable[..., Result]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Y = 2 X_0 - X_1 + 1 on the unit square, from 0 to 3: asked about 0.5 and, in compressed files, about 3.5."""
    constants = {"w": np.array([[2.0], [-1.0]], dtype=np.float32), "b": np.ones(1, dtype=np.float32)}
    saved(model([node("Gemm", "x w b", "y")], constants, ["N", 2]), tmp_path).rename(tmp_path / "net.onnx")
    box = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)" + "".join(
        f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2)
    )
    (tmp_path / "low.vnnlib").write_text(f"{box}(assert (<= Y_0 0.5))")
    (tmp_path / "high.vnnlib.gz").write_bytes(gzip.compress(f"{box}(assert (>= Y_0 3.5))".encode()))
    (tmp_path / "instances.csv").write_text("net.onnx,low.vnnlib,60\n./net.onnx , high.vnnlib,61.5\n\n")
    return tmp_path


def test_a_benchmark_is_decided_and_continued(
    run: Run, benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = benchmark / "instances.csv", tmp_path / "out"
    first = run("verify", "--instances", table, "--out", out, "--json")
    assert first.exit_code == 0, first.output
    summary = json.loads(first.stdout)
    assert [row["result"] for row in summary["instances"]] == ["sat", "unsat"]
    assert [row["limit"] for row in summary["instances"]] == [60.0, 61.5]
    assert (summary["n"], summary["sat"], summary["unsat"], summary["timeout"]) == (2, 1, 1, 0)
    assert json.loads((out / "results.json").read_text()) == summary
    assert (out / "0001-net-low.txt").read_text().startswith("sat\n((X_0 ")
    assert (out / "0002-net-high.txt").read_text() == "unsat\n"

    asked: list[str] = []

    def process(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[4])
        if "nowhere" in command[4]:
            return subprocess.CompletedProcess(command, 1, '{"error": "no such file"}\n')
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(instances.subprocess, "run", process)
    with table.open("a") as file:
        file.write("nowhere.onnx,low.vnnlib,1\nnet.onnx,low.vnnlib,2\n")
    more = run("verify", "--instances", table, "--out", out)
    assert more.exit_code == 0, more.output
    assert [Path(path).name for path in asked] == ["nowhere.onnx", "net.onnx"]  # what was decided is not asked again
    assert more.stdout.splitlines()[-1] == "3: no such file"
    assert more.stdout.splitlines()[3].split()[:7] == ["all", "4", "1", "1", "0", "1", "1"]
    run("verify", "--instances", table, "--out", out)
    assert len(asked) == 3  # an error is no result
    other = run("verify", "--instances", table, "--out", out, "--timeout", 7)
    assert other.exit_code == 2
    assert "of another table, limit, seed or version" in other.stderr


@pytest.mark.parametrize("changed", ["net.onnx", "high.vnnlib.gz", "weights"])
def test_answers_are_not_kept_for_other_files(
    run: Run, benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """A network, a property or weights in a third file, replaced under the same name before and while asked."""
    whole = onnx.load(benchmark / "net.onnx")
    onnx.save(whole, benchmark / "net.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    table, out = benchmark / "instances.csv", tmp_path / "out"
    asked: list[str] = []

    def process(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[4])
        return subprocess.CompletedProcess(command, 0, '{"result": "unsat"}\n')

    def writing(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        with (benchmark / changed).open("ab") as file:
            file.write(b"\n")
        return process(command)

    monkeypatch.setattr(instances.subprocess, "run", process)
    arguments = ("verify", "--instances", table, "--out", out)
    assert run(*arguments).exit_code == 0
    assert run(*arguments).exit_code == 0  # the same files go on
    assert len(asked) == 2
    held = (benchmark / changed).read_bytes()
    (benchmark / changed).write_bytes(held[:-1] + bytes([held[-1] ^ 1]))  # of the same size
    again = run(*arguments)
    assert again.exit_code == 2
    assert "is not what it was when row" in again.stderr
    assert len(asked) == 2

    (out / "results.json").unlink()
    monkeypatch.setattr(instances.subprocess, "run", writing)
    during = run(*arguments, "--json")
    last = json.loads(during.stdout)["instances"][-1]
    assert last["result"] == "error"
    assert "while it was decided" in last["error"]
    assert (out / "0002-net-high.txt").read_text() == "unknown\n"


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("net.onnx,low.vnnlib\n", ["--out", "{}/out"], "line 1: there must be"),
        ("net.onnx,low.vnnlib,nan\n", ["--out", "{}/out"], "'nan' is no number of seconds"),
        ("net.onnx,low.vnnlib,1e300\n", ["--out", "{}/out"], "'1e300' is no number of seconds"),
        ("net.onnx\0,low.vnnlib,5\n", ["--out", "{}/out"], "line 1: it holds a NUL"),
        ("\ufeffnet.onnx,low.vnnlib\n", ["--out", "{}/out"], "line 1: there must be"),
        ("\n", ["--out", "{}/out"], "there is no row"),
        ("a,b,1\n", [], "needs --out"),
        ("a,b,1\n", ["--out", "{}/out", "--network", "a={}/net.onnx"], "leave QUERY"),
    ],
)
def test_tables_that_cannot_be_read(run: Run, benchmark: Path, text: str, arguments: list[str], said: str) -> None:
    (benchmark / "instances.csv").write_text(text)
    result = run("verify", "--instances", benchmark / "instances.csv", *(part.format(benchmark) for part in arguments))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "nothing to verify" in run("verify").stderr
    assert "belong to --instances" in run("verify", benchmark / "low.vnnlib", "--json").stderr


def test_a_byte_order_mark_is_no_part_of_the_first_name(benchmark: Path) -> None:
    (benchmark / "instances.csv").write_text("net.onnx,low.vnnlib,5\n", encoding="utf-8-sig")
    (row,) = instances.read_instances(benchmark / "instances.csv", None)
    assert Path(row.network) == benchmark / "net.onnx"
