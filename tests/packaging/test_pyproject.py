"""pyproject.toml agrees with the folders: what it forgets would be missing from the wheel without a word."""

from __future__ import annotations

import importlib
from pathlib import PurePosixPath

import gls_es
from gls_es.problem import registry
from tests.packaging.checkout import PYPROJECT, ROOMS, ROOT, sources

SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def test_every_folder_of_python_files_is_a_listed_package() -> None:
    folders = {str(PurePosixPath(path).parent).replace("/", ".") for path in sources()}
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders)


def test_every_package_has_an_init() -> None:
    files = sources()
    assert all(f"{package.replace('.', '/')}/__init__.py" in files for package in SETUPTOOLS["packages"])


def test_the_rooms_are_mapped_to_their_folders() -> None:
    assert SETUPTOOLS["package-dir"] == ROOMS


def test_the_version_is_said_once() -> None:
    assert PYPROJECT["project"]["version"] == gls_es.__version__


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{gls_es.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_scripts_and_built_in_problems_lead_to_something() -> None:
    targets = [*PYPROJECT["project"]["scripts"].values(), *registry.BUILT_IN.values()]
    for target in targets:
        module, _, name = target.partition(":")
        assert hasattr(importlib.import_module(module), name), target


def test_torch_and_torchvision_ranges_are_of_the_same_releases() -> None:
    """torch 2.n belongs to torchvision 0.(n + 15), so the ranges begin and end together."""
    ranges = {}
    for requirement in PYPROJECT["project"]["dependencies"]:
        name, _, wanted = requirement.partition(">=")
        if name in ("torch", "torchvision"):
            low, _, high = wanted.partition(",<")
            ranges[name] = [int(version.split(".")[1]) for version in (low, high)]
    assert ranges["torchvision"] == [minor + 15 for minor in ranges["torch"]]
