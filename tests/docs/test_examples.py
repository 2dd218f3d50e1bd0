"""The tutorial runs as it stands, and does what its text says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import gls_es
from gls_es.certification.identity import network_digest
from gls_es.problem import registry
from tests.docs.conftest import TUTORIAL, Tutorial, invoke
from tests.docs.markdown import ROOT, blocks


def test_every_command_ends_well(tutorial: Tutorial) -> None:
    assert len(tutorial.commands) == 4
    for line, result in tutorial.commands:
        assert result.exit_code == 0, f"{line}: {result.stderr}"


def test_the_runs_are_complete(tutorial: Tutorial) -> None:
    for run, generations in (("odd", 8), ("odd-rgs", 3)):
        folder = tutorial.folder / "runs" / run
        assert {"checkpoint.pt", "config.toml", "metrics.jsonl"} <= {path.name for path in folder.iterdir()}
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == generations


def test_the_last_certification_is_about_the_trained_weights(tutorial: Tutorial) -> None:
    report, problem = tutorial.names["report"], tutorial.names["OddDigits"](seed=1)
    assert report.n == 40
    assert report.network == network_digest(gls_es.Network(tutorial.names["module"], problem.network.input_shape))
    assert report.network != network_digest(problem.network)


def test_a_checkpoint_that_names_a_file_wants_the_file_named(tutorial: Tutorial, monkeypatch) -> None:
    monkeypatch.chdir(tutorial.folder)
    refused = invoke("gls-es certify runs/odd/checkpoint.pt --limit 1")
    assert refused.exit_code == 1
    assert "--problem my_problem.py:OddDigits" in refused.stderr


def test_unsupported_modules_are_listed_together() -> None:
    message = str(_refusal())
    assert all(name in message for name in ("Mish", "AdaptiveMaxPool2d", "'1'", "'2'"))


def test_the_entry_point_of_the_tutorial_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package installed with the tutorial's pyproject snippet: its metadata, and its module."""
    (snippet,) = (tomllib.loads(block.text) for block in blocks(TUTORIAL) if block.language == "toml")
    (name, target), *others = snippet["project"]["entry-points"][registry.GROUP].items()
    assert not others
    module, _, _ = target.partition(":")
    package, _, leaf = module.partition(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (source,) = (b.text for b in blocks(TUTORIAL) if b.text.startswith("# my_problem.py"))
    (tmp_path / package / f"{leaf}.py").write_text(source, encoding="utf-8")
    info = tmp_path / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {target}\n")
    assert name not in registry.names()

    monkeypatch.syspath_prepend(str(tmp_path))
    assert name in registry.names()
    assert registry.registered_name(registry.resolve(name)) == name
    assert registry.available()[name].summary == "Odd or even? A residual network on the built-in digits."
    assert registry.available()[name].error is None


def _refusal() -> Exception:
    """What the block about unsupported modules prints."""
    (block,) = (b for b in blocks(TUTORIAL) if "AdaptiveMaxPool2d" in b.text)
    unguarded = block.text.replace("except gls_es.errors.UnsupportedNetworkError", "except ZeroDivisionError")
    with pytest.raises(gls_es.errors.UnsupportedNetworkError) as caught:
        exec(unguarded, {})
    return caught.value


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVOTORCH_VERBOSE_LEVEL", "0")
    source = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]
    assert source
    names: dict[str, object] = {}
    for text in source:
        exec(text, names)
