"""What every command does alike: --json, --quiet, --verbose, colours, and lines that stay lines."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import gls_es
from gls_es.cli.app import COMMANDS
from gls_es.cli.output import prepare_libraries
from gls_es.cli.session import Session
from gls_es.data.fetch import PLACES, Place
from tests.packaging.checkout import ROOT

Run = Callable[..., Result]

CALLS = {
    "bench": "--problem digits-cnn3 --members 2 --batch 2 --repeats 1 --method ibp --no-loops",
    "certify": "zoo:digits-cnn3 --limit 2 --stages ibp",
    "completion": "bash",
    "data": "fetch mnist --data .",
    "doctor": "",
    "export": "zoo:digits-cnn3 --safetensors net.safetensors",
    "landscape": "zoo:digits-cnn3 --images 2 --points 3 --samples 2 --method ibp --sigma 0.01",
    "new": "my_problem",
    "problems": "",
    "report": "run",
    "reproduce": "",
    "train": "--problem digits-cnn3 --searcher grad --generations 2 --set evaluate_images=4 --out new",
    "tune": "--problem digits-cnn3 --searcher grad --method ibp --trials 1 --limit 2 --set generations=2 --set "
    "evaluate_images=4 --search l1=0:1 --out new",
    "zoo": "",
}
"""Of every command a call that takes no time."""


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("habits") / "run"
    overrides = {"evaluate_images": 4}
    gls_es.train("digits-cnn3", "grad", out=folder, generations=2, overrides=overrides)
    return folder


@pytest.fixture
def call(run: Run, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``call("certify", "--quiet")``: that command's call with more options."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gls_es.benchmark.cpu_speed", lambda: 1e9)
    monkeypatch.setitem(PLACES, "mnist", Place("http://127.0.0.1/", "MNIST/raw", ()))  # of no files
    (tmp_path / "run").symlink_to(trained_run)

    def called(name: str, *options: str, **extra: Any) -> Result:
        if name == "tune":
            pytest.importorskip("optuna")
        return run(name, *CALLS[name].split(), *options, **extra)

    return called


STANDARD = {"supports", "verify"}
"""Commands whose options and output are those of the VNN-LIB standard; tests/cli/test_verify.py is about them."""
OURS = [name for name in COMMANDS if name not in STANDARD]


def test_no_command_is_left_out() -> None:
    assert CALLS.keys() | STANDARD == COMMANDS.keys()


@pytest.mark.parametrize("name", OURS)
def test_the_habits_of_every_command(call: Callable[..., Result], name: str, tmp_path: Path) -> None:
    quiet = call(name, "--quiet")
    assert (quiet.exit_code, quiet.stderr) == (0, ""), quiet.output
    if name == "train":
        (tmp_path / "new").rename(tmp_path / "first")
    if name == "new":
        (tmp_path / "my_problem.py").unlink()
        (tmp_path / "test_my_problem.py").unlink()
    result = call(name, "--json", "--verbose", env={"FORCE_COLOR": "1"})
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    assert isinstance(json.loads(result.stdout), dict)
    assert "\r" not in result.stderr  # coloured maybe, but no live line
    assert "\x1b[?25l" not in result.stderr
    both = call(name, "-v", "--quiet")
    assert both.exit_code == 2
    assert "--quiet and --verbose contradict each other" in both.stderr
    refused = call(name, "--json", "--no-such-option")
    assert refused.exit_code == 2
    assert list(json.loads(refused.stdout)) == ["error"]


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("train", "export", "new")])
def test_no_escape_codes_off_a_terminal_and_no_broken_rows(call: Callable[..., Result], name: str) -> None:
    wide, narrow = call(name), call(name, env={"COLUMNS": "60"})
    for result in (wide, narrow):
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        assert "…" not in result.output  # a cell that is too narrow is broken, never cut
    for line in wide.stdout.splitlines():
        assert not line.startswith(" " * 20)  # the rest of a cell from the line above
    assert narrow.stdout.split() != [] or name == "report"
    if name not in ("completion", "report"):
        assert max(map(len, narrow.stdout.splitlines())) <= 60


@pytest.mark.parametrize(
    ("environment", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False), ({}, False)]
)
def test_colours_are_for_terminals_and_for_those_who_ask(
    call: Callable[..., Result], environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    result = call("reproduce", env={"TERM": "xterm-256color", **environment})
    assert ("\x1b[" in result.stdout) is coloured


@pytest.mark.parametrize(("option", "heard"), [((), False), (("-v",), True), (("--quiet",), False)])
def test_what_evotorch_logs_is_heard_if_asked_for_and_never_on_standard_output(
    tmp_path: Path, option: tuple[str, ...], heard: bool
) -> None:
    """As a process of its own, because a library's logger is set up once."""
    environment = {key: value for key, value in os.environ.items() if key != "EVOTORCH_VERBOSE_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", "gls_es", "train", *CALLS["train"].split()[:-1], str(tmp_path / "run"), *option],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert ("\nevotorch." in done.stderr) is heard
    assert ("generation 1/2, " in done.stderr) is (option != ("--quiet",))
    if option == ("--quiet",):
        assert done.stderr == ""


def test_what_pytorch_warns_of_inside_evotorch_is_not_shown_and_other_warnings_are() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        prepare_libraries(Session())
        warnings.warn("`torch.jit.script` is deprecated. Please switch to `torch.compile`.", FutureWarning)
        warnings.warn("something else", FutureWarning)
    assert [str(warning.message) for warning in heard] == ["something else"]
