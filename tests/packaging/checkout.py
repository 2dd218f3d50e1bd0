"""The checkout as the packaging tests see it: its files, and what pyproject.toml says about them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"gls_es": "gls_es", "gls_es.cli": "cli", "gls_es.problems": "problems"}
"""Import packages and the top-level folders they live in."""

if not (ROOT / "pyproject.toml").is_file() or not (ROOT / "gls_es").is_dir():
    pytest.skip("packaging is tested in a checkout, these tests lie elsewhere", allow_module_level=True)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> dict[str, Path]:
    """Every Python file by its path in the wheel, gls_es/cli/app.py say."""
    found = {}
    for package, folder in ROOMS.items():
        for path in (ROOT / folder).rglob("*.py"):
            found[f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return found


def module_name(path_in_wheel: str) -> str:
    """The dotted name of a file, gls_es.bounds for gls_es/bounds/__init__.py."""
    return path_in_wheel.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
