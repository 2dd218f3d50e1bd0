"""The top of the command line: fast, one message per failure, exit codes that mean something."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

import gls_es
from gls_es.cli.app import COMMANDS, app
from gls_es.errors import CheckpointError, ConfigError, TrainingError

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]


def gls_es_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m gls_es`` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gls_es", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


# Speed --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["trian"],
        *([name, "--help"] for name in COMMANDS),
        ["certify", "nowhere"],
        ["certify", "zoo:digits-cn3"],
        ["train", "--problem", "digits-cn3"],
        ["train", "--problem", "nowhere.py:Class"],
        ["train", "--problem", "digits-cnn3", "--set", "popsize=many"],
        ["bench", "--problem", "digits-cn3"],
    ],
)
def test_what_does_no_work_imports_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom gls_es.cli.app import main\n"
        f"try: main({arguments!r})\nfinally: print(sorted({{'torch', 'evotorch', 'ray', 'numpy'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Traceback" not in done.stderr


def test_the_end_of_the_process_looks_through_nothing_again() -> None:
    """All that lives is frozen when the last exit functions run, and not before."""
    code = (
        "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        "from gls_es.cli.app import main\n"
        "try: main(['--version'])\nfinally: print(gc.get_freeze_count() > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split()[1:] == ["False", "True"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--problem", "digits-cnn3", "--method", "crwn"],
        ["train", "--problem", "digits-cnn3", "--loss", "robst"],
        ["bench", "--problem", "digits-cnn3", "--method", "crwn"],
        ["landscape", "zoo:digits-cnn3", "--method", "crwn"],
    ],
)
def test_a_slip_that_torch_is_needed_for_needs_no_evotorch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom gls_es.cli.app import main\n"
        f"try: main({arguments!r})\nfinally: print('evotorch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
    assert "did you mean" in done.stderr


@pytest.mark.parametrize(("typed", "offered"), [("gls-es ", set(COMMANDS)), ("gls-es tr", {"train"})])
def test_completion_offers_commands_without_importing_them(typed: str, offered: set[str]) -> None:
    done = gls_es_process(_GLS_ES_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD="1")
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered


def test_completion_of_an_option(run: Run) -> None:
    done = gls_es_process(_GLS_ES_COMPLETE="bash_complete", COMP_WORDS="gls-es train --gen", COMP_CWORD="2")
    assert done.stdout.split() == ["plain,--generations"]


# What is there ------------------------------------------------------------------------------------------------------


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"{gls_es.__version__}\n"
    assert run("--name").stdout == "gls-es\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_group_and_of_the_command_agree(run: Run, name: str) -> None:
    assert COMMANDS[name][1] in run("--help").stdout
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: gls-es {name} ")


def test_every_option_has_a_help_text() -> None:
    context = click.Context(app)
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        for param in command.params:
            assert not isinstance(param, click.Option) or param.help or param.hidden, f"{name} {param.opts}"


def test_a_command_that_may_have_been_meant(run: Run) -> None:
    result = run("trian")
    assert result.exit_code == 2
    assert "there is no command 'trian'; did you mean 'train'?" in result.stderr
    assert f"choose from {', '.join(sorted(COMMANDS))}." in run("xyzzy").stderr


# Failures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("no such thing."), 2, "no such thing."),
        (CheckpointError("x.pt: damaged."), 1, "x.pt: damaged."),
        (TrainingError("every loss is NaN."), 1, "every loss is NaN."),
        (click.UsageError("not so"), 2, "not so"),
        (ValueError("first\nsecond"), 1, "internal error: ValueError: first second (gls-es --debug COMMAND"),
        (MemoryError(), 1, "out of memory (MemoryError:); take smaller"),
        (KeyboardInterrupt(), 1, "stopped before the work was done"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_each_failure_is_one_message(
    run: Run, work, error: BaseException, code: int, message: str, as_json: bool
) -> None:
    work.error = error
    result = run("train", "--problem", "p", "--quiet", *(["--json"] if as_json else []))
    assert result.exit_code == code
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert "Traceback" not in result.output
    if as_json:
        assert list(json.loads(result.stdout)) == ["error"]
        assert message in json.loads(result.stdout)["error"]
    else:
        assert result.stdout == ""


def test_failures_before_any_command_are_json_too(run: Run) -> None:
    for arguments in (["train", "--json", "--bogus"], ["train", "--json"], ["trian", "--json"], ["certify", "--json"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert list(json.loads(result.stdout)) == ["error"]
    assert run("train", "--problem", "--json", "--", "x").exit_code == 2


@pytest.mark.parametrize("error", [RuntimeError("odd"), ConfigError("not so")])
@pytest.mark.parametrize("arguments", [("--debug", "train", "--problem", "p"), ("train", "--problem", "p", "--debug")])
def test_debug_shows_the_traceback(run: Run, work, error: Exception, arguments: tuple[str, ...]) -> None:
    work.error = error
    result = run(*arguments)
    assert "Traceback (most recent call last)" in result.stderr
    assert str(error) in result.stderr.splitlines()[-1]
    assert result.exit_code == (2 if isinstance(error, ConfigError) else 1)


def test_a_reader_that_goes_away_is_not_an_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gls_es", "--help"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1


def test_a_poor_encoding_does_not_stop_the_output() -> None:
    done = gls_es_process("tra→n", PYTHONIOENCODING="latin-1")
    assert done.returncode == 2
    assert r"there is no command 'tra\u2192n'" in done.stderr


def test_without_standalone_mode_errors_come_through() -> None:
    with pytest.raises(click.UsageError):
        app.main(["trian"], standalone_mode=False)
