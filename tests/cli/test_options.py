"""The types of option values, and the configuration file."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from gls_es.cli.options import EPS, SETTING

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("8/255", 8 / 255),
        (".5", 0.5),
        ("1", 1.0),
        ("0", 0.0),
        ("1e-2", 0.01),
        (" 2/255 ", 2 / 255),
        (0.3, 0.3),
    ],
)
def test_eps_reads_numbers_and_fractions(text: object, value: float) -> None:
    assert EPS.convert(text, None, None) == value


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_eps_is_the_nearest_float_of_the_fraction(a: int, b: int) -> None:
    low, high = sorted((a, b))
    eps = EPS.convert(f"{low}/{high}", None, None)
    neighbours = [eps * (1 - 2**-52), eps * (1 + 2**-52)]
    assert all(abs(Fraction(eps) - Fraction(low, high)) <= abs(Fraction(n) - Fraction(low, high)) for n in neighbours)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-0.1", "negative"),
        ("-1/255", "negative"),
        ("2", "did you mean 2/255?"),
        ("8.0", "did you mean 8.0/255?"),
        ("300", "more than 1"),
        ("9/8", "more than 1"),
        ("nan", "not a number"),
        ("inf", "not a number"),
        ("1/0", "divides by zero"),
        ("abc", "not a number"),
        ("", "not a number"),
        ("8 / 255", "not a number"),
        ("0x1", "not a number"),
        ("1e999999999", "not a number"),  # as a fraction it would take all memory
        ("9" * 100, "not a number"),
        ("٨/255", "not a number"),
        ("1e-999", "less than any float"),
        (True, "not a number"),
        ([0.1], "not a number"),
    ],
)
def test_eps_refuses_with_a_hint(text: object, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said.replace("?", r"\?")):
        EPS.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("popsize=64", ("popsize", 64)),
        ("center-learning-rate=1e-3", ("center_learning_rate", 0.001)),
        ("optimizer=adam", ("optimizer", "adam")),
        ("optimizer='adam'", ("optimizer", "adam")),
        ("flag=true", ("flag", True)),
        ("widths=[8, 16]", ("widths", [8, 16])),
        ("x = 1", ("x", 1)),
        ("empty=", ("empty", "")),
        ("a=b=c", ("a", "b=c")),
        ("x=1\ny=2", ("x", "1\ny=2")),
    ],
)
def test_settings(text: str, setting: tuple[str, object]) -> None:
    assert SETTING.convert(text, None, None) == setting
    assert SETTING.convert(setting, None, None) == setting


@pytest.mark.parametrize("text", ["popsize", "=3", "1x=3", "a b=3", ""])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="KEY=VALUE"):
        SETTING.convert(text, None, None)


# The configuration file ---------------------------------------------------------------------------------------------

CONFIG = """
problem = "from-file"
seed = 5
eps = 0.25
"generations" = 9
quiet = true
set = ["popsize=8", "l1=0.5"]

[recipe]
popsize = 4
batch_size = 32
"""


def called(run: Run, work: Any, tmp_path: Path, text: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """The arguments that training got; the positional ones under their names."""
    path = tmp_path / "run.toml"
    path.write_text(text)
    result = run("train", "--config", path, *arguments, env=environment)
    assert result.exit_code == 0, result.output
    _, args, kwargs = work.calls[-1]
    return {"problem": args[0], "searcher": args[1], **kwargs}


def test_the_file_gives_defaults(run: Run, work: Any, tmp_path: Path) -> None:
    got = called(run, work, tmp_path, CONFIG)
    assert {name: got[name] for name in ("problem", "seed", "eps", "generations")} == {
        "problem": "from-file",
        "seed": 5,
        "eps": 0.25,
        "generations": 9,
    }
    assert got["overrides"] == {"popsize": 8, "l1": 0.5, "batch_size": 32}


def test_command_line_then_environment_then_file(run: Run, work: Any, tmp_path: Path) -> None:
    got = called(run, work, tmp_path, CONFIG, "--seed", "7", GLS_ES_TRAIN_SEED="6", GLS_ES_TRAIN_EPS="1/4")
    assert (got["seed"], got["eps"], got["generations"]) == (7, 0.25, 9)
    got = called(run, work, tmp_path, CONFIG, GLS_ES_TRAIN_SEED="6")
    assert got["seed"] == 6
    got = called(run, work, tmp_path, CONFIG, "--set", "popsize=16")
    assert got["overrides"] == {"popsize": 16, "batch_size": 32}


def test_a_refused_value_says_where_it_comes_from(run: Run, work: Any, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("generations = 0\n")
    for arguments, environment, said in (
        ((), {"GLS_ES_TRAIN_SEED": "x"}, "the environment variable GLS_ES_TRAIN_SEED (--seed): 'x' is not a valid"),
        ((), {"GLS_ES_TRAIN_EPS": "2"}, "the environment variable GLS_ES_TRAIN_EPS (--eps): 2 is more than 1"),
        (("--config", tmp_path / "run.toml"), {}, "--generations in the file of --config: 0 is not in the range"),
        (("--seed", "y"), {"GLS_ES_TRAIN_SEED": "3"}, "Invalid value for '--seed': 'y' is not a valid"),
    ):
        result = run("train", "--problem", "p", "--json", *arguments, env=environment)
        assert result.exit_code == 2
        assert said in result.stderr
        assert said in json.loads(result.stdout)["error"]


def test_switches_of_the_file_hold(run: Run, work: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('problem = "p"\njson = true\nquiet = true\n')
    result = run("train", "--config", path)
    assert result.stdout.startswith("{")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = [", "Invalid value"),
        ("sead = 1", "unknown key 'sead'; did you mean 'seed'?"),
        ("xyzzy = 1", "this command knows"),
        ("config = 'x'", "unknown key 'config'"),
        ("resume = 'x'", "unknown key 'resume'"),
        ("seed = 1.5", "'1.5' is not a valid integer"),
        ("seed = true", "'True' is not a valid integer"),
        ("seed = 'x'", "'x' is not a valid integer"),
        ("seed = [1]", "takes a plain value"),
        ("seed = {a = 1}", "takes a plain value"),
        ("seed = 1979-05-27", "not a valid integer"),
        ("generations = 0", "not in the range"),
        ("eps = 8", "did you mean 8/255?"),
        ("eps = nan", "not a number"),
        ("recipe = 3", "is a table"),
        ("set = 'popsize'", "KEY=VALUE"),
        ("json = 3", "not a valid boolean"),
        ("searcher = 'sgd'", "'sgd' is not one of"),
        ("[recipes]\npopsize = 1", "did you mean 'recipe'?"),
    ],
)
def test_a_bad_file_is_one_message(run: Run, work: Any, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    result = run("train", "--problem", "p", "--config", path)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not work.calls


def test_bytes_that_are_no_text_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"seed = '\xff'")
    result = run("train", "--problem", "p", "--config", tmp_path / "run.toml")
    assert result.exit_code == 2
    assert "utf-8" in result.stderr


def test_certify_takes_a_file_too(run: Run, trained: Any, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("eps = 0.02\nlimit = 2\njson = true\n")
    result = run("certify", tmp_path / "checkpoint.pt", "--config", tmp_path / "c.toml")
    assert '"eps": 0.02' in result.stdout
    assert '"n": 2,' in result.stdout
