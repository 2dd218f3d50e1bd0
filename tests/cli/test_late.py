"""Modules that are imported when they are used."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from gls_es.cli.late import import_late
from tests.packaging.checkout import ROOT


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose code leaves a file when it runs."""
    folder = tmp_path / "slow_package"
    folder.mkdir()
    marker = tmp_path / "ran"
    (folder / "__init__.py").write_text(f"open({str(marker)!r}, 'x').close()\nvalue = 3\n")
    (folder / "inner.py").write_text("import slow_package\nvalue = slow_package.value + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "slow_package", None)
    del sys.modules["slow_package"]
    monkeypatch.delitem(sys.modules, "slow_package.inner", raising=False)
    import_late("slow_package")
    return marker


def test_the_code_runs_at_the_first_use_and_once(package: Path) -> None:
    module = importlib.import_module("slow_package")
    assert not hasattr(module, "__warningregistry__")
    assert not package.exists()
    assert module.value == 3
    assert package.exists()
    assert importlib.import_module("slow_package") is module
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        module.other  # noqa: B018


def test_a_submodule_comes_after_its_package(package: Path) -> None:
    assert importlib.import_module("slow_package.inner").value == 4
    assert package.exists()


def test_what_is_not_there_or_there_already_is_left_alone() -> None:
    import_late("no_such_module_anywhere")
    assert "no_such_module_anywhere" not in sys.modules
    import_late("json")
    assert importlib.import_module("json").loads("1") == 1


def test_evotorch_still_has_what_it_wraps() -> None:
    """As a process of its own: here evotorch is imported already."""
    code = (
        "import sys, warnings\nwarnings.simplefilter('ignore')\n"
        "from gls_es.cli.output import prepare_libraries\nfrom gls_es.cli.session import Session\n"
        "prepare_libraries(Session())\nfrom evotorch import Problem\nfrom evotorch.algorithms import PyCMAES\n"
        "print('cma.evolution_strategy' in sys.modules)\n"
        "searcher = PyCMAES(Problem('min', lambda x: (x * x).sum(), solution_length=3, initial_bounds=(-1, 1)), "
        "stdev_init=1.0)\nsearcher.step()\nprint('cma.evolution_strategy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    said = done.stdout.split()
    assert (said[0], said[-1]) == ("False", "True"), done.stderr
