"""One idea a file: modules of at most 400 lines, functions of at most 60, and every public thing documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.packaging.checkout import sources

Definition = ast.FunctionDef | ast.ClassDef


def _trees() -> dict[str, ast.Module]:
    return {path: ast.parse(file.read_text(encoding="utf-8")) for path, file in sources().items()}


def _public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Public functions, classes and their public methods."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")


def test_modules_are_short() -> None:
    long = {path: count for path, file in sources().items() if (count := len(file.read_text().splitlines())) > 400}
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{path}: {node.name}": length
        for path, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (length := node.end_lineno - node.lineno + 1) > 60
    }
    assert not long


def test_modules_and_public_names_are_documented() -> None:
    bare = [path for path, tree in _trees().items() if ast.get_docstring(tree) is None]
    for path, tree in _trees().items():
        bare += [f"{path}: {name}" for name, node in _public(tree.body) if not ast.get_docstring(node)]
    assert bare == []


def test_functions_say_what_they_return() -> None:
    silent = [
        f"{path}: {node.name}"
        for path, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.returns is None
    ]
    assert silent == []
