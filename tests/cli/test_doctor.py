"""gls-es doctor and gls-es completion."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from gls_es.benchmark.doctor import Finding

Run = Callable[..., Result]


def test_a_healthy_installation_ends_with_0(run: Run, tmp_path: Path) -> None:
    result = run("doctor", "--data", tmp_path)
    assert result.exit_code == 0
    assert "self-test" in result.stdout
    table = json.loads(run("doctor", "--data", tmp_path, "--json").stdout)
    assert table["broken"] == []
    assert {"name", "value", "health", "advice"} == set(table["findings"][0])


def test_a_broken_one_ends_with_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gls_es.benchmark.doctor.examine", lambda _data: [Finding("torch", "gone", "broken", "install it")]
    )
    result = run("doctor")
    assert result.exit_code == 1
    assert result.stdout.split() == ["BROKEN", "torch", "gone", "(install", "it)"]


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --no-files")]
)
def test_every_shell_has_its_script(run: Run, shell: str, word: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert word in result.stdout
    assert "_GLS_ES_COMPLETE" in result.stdout


def test_an_unknown_shell_is_refused(run: Run) -> None:
    assert run("completion", "csh").exit_code == 2
