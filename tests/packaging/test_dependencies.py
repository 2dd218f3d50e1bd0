"""Dependencies between rooms point one way. Every import is held against a table; what it does not list is refused."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

import pytest

import gls_es
from tests.packaging.checkout import module_name, sources

PUBLIC = {"losses": "fitness", "errors": "basics"}
"""Single modules that belong to a room, under a public name of their own."""

ALLOWED: dict[str, set[str]] = {
    "basics": set(),
    "data": {"basics"},
    "network": {"basics"},
    "zoo": {"basics"},
    "kernels": {"basics"},
    "bounds": {"kernels", "network", "basics"},
    "fitness": {"bounds", "network", "basics"},
    "problem": {"fitness", "bounds", "network", "data", "basics"},
    "searchers": {"problem", "basics"},
    "training": {"zoo", "searchers", "problem", "fitness", "bounds", "network", "data", "basics"},
    "certification": {"bounds", "network", "basics"},
    "formats": {"certification", "training", "problem", "data", "network", "basics"},
    "problems": {"problem", "data", "network", "basics"},
    "benchmark": {"problem", "fitness", "bounds", "kernels", "network", "data", "basics"},
    "experiments": {"training", "certification", "searchers", "problem", "benchmark", "basics"},
    "landscape": {"fitness", "bounds", "network", "basics"},
    "report": {"certification", "training", "basics"},
    "cli": {
        "zoo",
        "report",
        "formats",
        "landscape",
        "experiments",
        "training",
        "certification",
        "benchmark",
        "problem",
        "basics",
    },
}
"""What each room may import of gls_es when it is imported."""

LATER: dict[str, set[str]] = {
    "benchmark": {"certification"},
    "certification": {"training", "formats"},
}
"""What it may import besides, for type checkers or inside a function only."""

LIBRARIES: dict[str, set[str]] = {
    "evotorch": {"problem", "searchers", "training"},
    "click": {"cli"},
    "rich": {"cli", "training"},
    "torchvision": {"data"},
    "PIL": {"data"},
    "numpy": {"data", "certification", "formats"},
    "scipy": {"certification"},
}
"""Libraries that only some rooms may import; torch is everybody's but the command line's."""


@dataclass(frozen=True)
class Import:
    """One import: who, what, and whether it happens when the module is imported."""

    module: str
    target: str
    line: int
    at_once: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}, imports {self.target}"


def room(module: str) -> str:
    """The room of a dotted name under gls_es; "" for gls_es itself."""
    _, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    return PUBLIC.get(first, first)


@cache
def imports() -> tuple[Import, ...]:
    """Every import statement of the package."""
    found = []
    for path, file in sources().items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        later = _later(tree)
        package = path.rpartition("/")[0].replace("/", ".")
        for node in ast.walk(tree):
            for target in _targets(node, package):
                found.append(Import(module_name(path), target, node.lineno, node not in later))
    return tuple(found)


def _later(tree: ast.Module) -> set[ast.AST]:
    """Nodes inside functions and ``if TYPE_CHECKING``."""
    outer = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return {inner for node in outer for inner in ast.walk(node)}


def _targets(node: ast.AST, package: str) -> list[str]:
    """The dotted names an import statement leads to; names that gls_es fetches on first use count as their homes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
    origin = ".".join(part for part in (base, node.module) if part)
    if origin != "gls_es":
        return [origin]
    return [gls_es._LAZY.get(alias.name, f"gls_es.{alias.name}") for alias in node.names]


def _inner(target: str) -> bool:
    return target == "gls_es" or target.startswith("gls_es.")


def test_the_scan_sees_imports_of_every_kind() -> None:
    seen = {(i.module, i.target, i.at_once) for i in imports()}
    assert ("gls_es.cli.app", "gls_es.cli.session", True) in seen  # relative
    assert ("gls_es.certification.inputs", "gls_es.training", False) in seen  # in a function
    assert ("gls_es.bounds.plan", "gls_es.bounds.query", False) in seen  # for type checkers
    assert ("gls_es.cli.app", "gls_es", True) in seen
    assert ("gls_es.problem.problem", "evotorch", True) in seen


def test_every_module_belongs_to_a_room() -> None:
    rooms = {room(module_name(path)) for path in sources()} - {"", "__main__"}
    assert rooms == set(ALLOWED), "give a new room its line in ALLOWED, and in CONTRIBUTING.md"


def test_rooms_import_only_what_they_may() -> None:
    wrong = []
    for found in imports():
        home, target = room(found.module), room(found.target)
        if home in ("", "__main__") or not _inner(found.target) or target in ("", "__version__", home):
            continue
        allowed = ALLOWED[home] | (set() if found.at_once else LATER.get(home, set()))
        if target not in allowed:
            wrong.append(str(found))
    assert not wrong, wrong


def test_libraries_stay_in_their_rooms() -> None:
    restricted = [
        (i, LIBRARIES[i.target.partition(".")[0]]) for i in imports() if i.target.partition(".")[0] in LIBRARIES
    ]
    assert [str(i) for i, rooms in restricted if room(i.module) not in rooms] == []


def test_the_command_line_loads_torch_and_evotorch_through_others_only() -> None:
    direct = [
        str(i)
        for i in imports()
        if room(i.module) == "cli" and i.target.split(".")[0] in ("torch", "numpy", "evotorch")
    ]
    assert direct == []


def test_no_room_depends_on_itself_in_a_circle() -> None:
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        ready = {name for name, needs in ALLOWED.items() if name not in done and needs <= done}
        assert ready, f"a circle among {sorted(set(ALLOWED) - done)}"
        done |= ready


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
