"""Who imports whom, as far as the contracts in pyproject.toml (``lint-imports``) cannot say it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

import gls_es
from tests.packaging.checkout import PYPROJECT, ROOT, module_name, sources

CIRCLES_WITH_A_REASON: set[tuple[str, str]] = set()
"""Imports that may close a ring, (who, what), each with its reason."""

SINGLE = {"errors", "losses"}
"""Modules that lie beside the rooms: names of the public API."""


@dataclass(frozen=True)
class Import:
    """One import statement's target."""

    module: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}, imports {self.target}"


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package, at the top, inside functions and for type checkers."""
    found = []
    for path, file in sources().items():
        package = path.rpartition("/")[0].replace("/", ".")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for target in _targets(node, package):
                found.append(Import(module_name(path), target, node.lineno))
    return tuple(found)


def _targets(node: ast.AST, package: str) -> list[str]:
    """The modules that an import statement leads to; names that gls_es fetches on first use count as their homes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
    origin = ".".join(part for part in (base, node.module) if part)
    if origin == "gls_es":
        return [gls_es._LAZY.get(alias.name, f"gls_es.{alias.name}") for alias in node.names]
    inner = {module_name(path) for path in sources()}
    return [f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in inner else origin for alias in node.names]


def test_the_scan_sees_imports_of_every_kind() -> None:
    seen = {(i.module, i.target) for i in imports()}
    assert ("gls_es.cli.app", "gls_es.cli.session") in seen  # relative
    assert ("gls_es.certification.inputs", "gls_es.training") in seen  # in a function
    assert ("gls_es.problem.registry", "gls_es.problem") in seen  # for type checkers
    assert ("gls_es.cli.problems", "gls_es.problem.registry") in seen  # a module from its package
    assert ("gls_es.problem.evotorch_classes", "evotorch") in seen


def test_no_modules_import_each_other_in_a_ring() -> None:
    """But for the top package, which shows type checkers the public names of its rooms and is not imported back."""
    needs: dict[str, set[str]] = {}
    for found in imports():
        if found.module != "gls_es" and found.target.startswith("gls_es."):
            needs.setdefault(found.module, set()).add(found.target)
    for who, what in CIRCLES_WITH_A_REASON:
        needs[who].remove(what)  # fails where the reason has gone
    for package in {module_name(path) for path in sources() if path.endswith("/__init__.py")}:
        needs.get(package, set()).discard(package)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(f"a ring: {' -> '.join(error.args[1])}")


def test_the_package_holds_rooms_not_loose_modules() -> None:
    entries = {path.stem for path in (ROOT / "gls_es").iterdir() if not path.name.startswith(("_", "."))} - {"py"}
    rooms = {path.name for path in (ROOT / "gls_es").iterdir() if (path / "__init__.py").is_file()}
    assert entries == rooms | SINGLE
    assert len(entries) <= 19
    (layers,) = [c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c.get("exhaustive")]
    placed = {room for layer in layers["layers"] for room in layer.split(" | ")}
    assert placed | {"losses"} == entries


@pytest.mark.parametrize("folder", ["cli", "problems"])
def test_the_outer_rooms_are_reached_by_name_only(folder: str) -> None:
    """Nothing imports gls_es.cli or gls_es.problems from outside them, or under the names of their folders."""
    home = f"gls_es.{folder}"
    reaching = [
        str(i)
        for i in imports()
        if (f"{i.target}.".startswith(f"{home}.") and not f"{i.module}.".startswith(f"{home}."))
        or i.target.partition(".")[0] == folder
    ]
    assert reaching == []


def test_names_of_the_command_line_appear_in_the_core_only_to_start_it() -> None:
    naming = []
    for path, file in sources().items():
        if path.startswith("gls_es/cli/"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("gls_es.cli"):
                naming.append(path)
    assert naming == ["gls_es/__main__.py"]
