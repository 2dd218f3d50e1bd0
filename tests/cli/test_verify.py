"""``gls-es verify`` and ``gls-es supports``: words, assignments, exit codes, and results in time."""

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from gls_es.formats import CAPABILITIES
from gls_es.formats.onnx_nodes import NODES
from tests.formats.hand_made import model, node, saved

Run = Callable[..., Result]
HEAD = "(vnnlib-version <2.0>)(declare-network net (declare-input X float32 [1,2]) (declare-output Y float32 [1,1]))"
BOX = "".join(f"(assert (and (>= X[0,{i}] 0.0) (<= X[0,{i}] 1.0)))" for i in range(2))
OLD = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)" + "".join(
    f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2)
)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Y = 2 X_0 - X_1 + 1."""
    constants = {"w": np.array([[2.0], [-1.0]], dtype=np.float32), "b": np.ones(1, dtype=np.float32)}
    return saved(model([node("Gemm", "x w b", "y")], constants, ["N", 2]), tmp_path)


def _query(folder: Path, assertions: str, head: str = HEAD + BOX) -> Path:
    path = folder / "query.vnnlib"
    path.write_text(head + assertions)
    return path


def test_the_words_and_the_assignment(run: Run, network: Path, tmp_path: Path) -> None:
    names = ("--network", f"net={network}")
    assert run("verify", _query(tmp_path, "(assert (>= Y[0,0] 3.5))"), *names).stdout == "unsat\n"
    point = "(assert (== X[0,0] 0.5))(assert (== X[0,1] 0.25))(assert (> Y[0,0] 1.5))"
    result = run("verify", _query(tmp_path, point), *names, "--timeout", "5.0", "--result", tmp_path / "r")
    assert result.exit_code == 0
    assert result.stdout == "sat\nX float32 [1,2]\n0.5\n0.25\nY float32 [1,1]\n1.75\n"
    assert (tmp_path / "r").read_text() == result.stdout
    open_ended = _query(tmp_path, "(assert (>= X[0,0] 0.0))(assert (<= Y[0,0] -9.0))", HEAD)
    result = run("verify", open_ended, *names)
    assert (result.stdout, result.exit_code) == ("unknown\n", 0)


def test_queries_of_version_one_and_compressed_files(run: Run, network: Path, tmp_path: Path) -> None:
    query = _query(tmp_path, "(assert (<= Y_0 0.5))", OLD)
    result = run("verify", query, "--network", f"any={network}")
    assert result.stdout.startswith("sat\n((X_0 ")
    for path in (network, query):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    again = run("verify", f"{query}.gz", "--network", f"any={network}.gz")
    assert again.stdout == result.stdout
    certified = run("certify", f"{network}.gz", "--vnnlib", f"{query}.gz", "--json")
    assert json.loads(certified.stdout)["result"] == "sat"


@pytest.mark.parametrize(
    ("head", "names", "code", "said"),
    [
        (HEAD, [], 2, "0 are given"),
        (HEAD, ["other={net}"], 2, "called 'net'"),
        (HEAD, ["net={net}", "more={net}"], 2, "2 are given"),
        (HEAD, ["net=nowhere.onnx"], 2, "no such file"),
        (HEAD.replace("[1,2]", "[2]"), ["net={net}"], 1, "is not the query's X float32 [2]"),
        (HEAD.replace("[1,1]", "[1,2]"), ["net={net}"], 1, "2 and 1"),
        (
            HEAD.replace("[1,2]", "[1,2]) (declare-input Z float32 [1]"),
            ["net={net}"],
            1,
            "1 inputs",
        ),
        (HEAD.replace("float32", "float64"), ["net={net}"], 1, "float64"),
    ],
)
def test_errors_are_no_answers(
    run: Run, network: Path, tmp_path: Path, head: str, names: list[str], code: int, said: str
) -> None:
    (tmp_path / "r").write_text("unsat\n")
    query = _query(tmp_path, "(assert (<= 0.0 1.0))", head)
    given = [part for name in names for part in ("--network", name.format(net=network))]
    result = run("verify", query, *given, "--result", tmp_path / "r")
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "r").exists() or (tmp_path / "r").read_text() == "unknown\n"  # no stale answer


@pytest.mark.parametrize("command", ["verify", "certify"])
def test_a_result_is_there_in_time(command: str, network: Path, tmp_path: Path) -> None:
    """The work hangs, the process does not: a second is the limit, and an older result is gone."""
    query = _query(tmp_path, "(assert (<= Y[0,0] 9.0))")
    (tmp_path / "r").write_text("unsat\n")
    code = (
        "import time, gls_es.formats\n"
        "gls_es.formats.read_query = lambda path: time.sleep(600)\n"
        "from gls_es.cli.app import main\n"
        "main()"
    )
    files = [query, "--network", f"net={network}"] if command == "verify" else [network, "--vnnlib", query]
    arguments = [sys.executable, "-c", code, command, *files, "--timeout", "1", "--result", tmp_path / "r"]
    begun = time.monotonic()
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, env=os.environ, timeout=120)
    assert time.monotonic() - begun < 100
    assert done.returncode == 0, done.stderr
    word = "timed-out" if command == "verify" else "timeout"
    assert (tmp_path / "r").read_text() == f"{word}\n"
    assert done.stdout.startswith(word)


def test_who_kills_the_process_finds_a_result(network: Path, tmp_path: Path) -> None:
    """No limit of its own: somebody else's watch ends it while it reads, and no older answer is left."""
    (tmp_path / "r").write_text("unsat\n")
    code = (
        "import time, gls_es.formats\n"
        "gls_es.formats.read_query = lambda path: (print('reading', flush=True), time.sleep(600))\n"
        "from gls_es.cli.app import main\n"
        "main()"
    )
    files = [network, "--vnnlib", _query(tmp_path, "(assert (<= Y[0,0] 9.0))"), "--result", tmp_path / "r"]
    with subprocess.Popen([sys.executable, "-c", code, "certify", *map(str, files)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"reading\n"
        child.kill()
    assert (tmp_path / "r").read_text() == "timeout\n"


@pytest.mark.parametrize("name", CAPABILITIES)
def test_supports_prints_the_readers_tables(run: Run, name: str) -> None:
    result = run("supports", f"--{name}")
    assert result.exit_code == 0
    assert tuple(result.stdout.splitlines()) == CAPABILITIES[name]
    assert all(line.strip() for line in result.stdout.splitlines())


def test_wrong_usage_of_both(run: Run) -> None:
    assert set(run("supports", "--onnx-operators").stdout.split()) >= set(NODES)
    assert "not of the form NAME=FILE" in run("verify", __file__, "--network", "net").stderr
    for flags in ((), ("--onnx-operators", "--vnnlib-versions")):
        result = run("supports", *flags)
        assert result.exit_code == 2
        assert "ask for one capability" in result.stderr
