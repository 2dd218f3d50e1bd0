"""What importing costs, and that every public name is there."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

import gls_es
from tests.packaging.checkout import ROOT

HEAVY = {"torch", "torchvision", "evotorch", "ray", "numpy", "pandas", "matplotlib"}
PACKAGES = ("bounds", "certification", "data", "searchers", "training")

LIGHT = {
    "import gls_es": "import gls_es",
    "gls-es --help": "import runpy; sys.argv = ['gls-es', '--help']; runpy.run_module('gls_es', run_name='__main__')",
    "errors": "import gls_es; gls_es.errors.ConfigError",
    "registry": "import gls_es.problem.registry as registry; registry.names()",
    "training package": "import gls_es.training",
}


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT)
def test_light_imports_stay_light(code: str) -> None:
    """A fresh interpreter in the checkout; ``--help`` ends it with SystemExit, hence the report at exit."""
    report = "import atexit, sys; atexit.register(lambda: print('loaded:', *sorted(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", report + code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert "gls_es" in loaded
    assert not loaded & HEAVY


def test_the_check_would_notice() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, gls_es; gls_es.losses; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "torch" in done.stdout.split()


@pytest.mark.parametrize("name", gls_es.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(gls_es, name) is not None
    assert name in dir(gls_es)


def test_type_checkers_see_the_same_names() -> None:
    """The names under TYPE_CHECKING are those of __all__, and come from where they are found at run time."""
    tree = ast.parse((ROOT / "gls_es" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imports = [n for n in guarded.body if isinstance(n, ast.ImportFrom)]
    seen = {alias.asname: (n.module, alias.name) for n in imports for alias in n.names}
    assert set(seen) == set(gls_es.__all__)
    for name, (module, attribute) in seen.items():
        assert getattr(importlib.import_module(module), attribute) is getattr(gls_es, name)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Netwrok'"):
        _ = gls_es.Netwrok


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_of_subpackages_are_there(package: str) -> None:
    module = importlib.import_module(f"gls_es.{package}")
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None


def test_the_command_line_knows_every_searcher() -> None:
    """The names are written twice, because the command line does not import the table."""
    from gls_es.cli.train import SEARCHERS
    from gls_es.searchers import table

    assert list(SEARCHERS) == list(table.SEARCHERS) == list(table.DEFAULTS)
