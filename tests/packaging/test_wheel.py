"""The wheel, built from the source distribution as an index would get it, and used where no checkout is.

It is built as on a machine without a compiler: the kernels are left out, and everything works without them.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest

from tests.packaging.checkout import PYPROJECT, ROOT, sources

PARTS = ("gls_es", "cli", "problems", "tests", "docs", "setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE")


def _needs() -> str | None:
    """Why the wheel cannot be built here, if it cannot."""
    if find_spec("pip") is None or find_spec("setuptools") is None:
        return "building the wheel needs pip and setuptools"
    wanted = PYPROJECT["build-system"]["requires"][0].partition(">=")[2]
    found = importlib.metadata.version("setuptools")
    return None if int(found.split(".")[0]) >= int(wanted) else f"setuptools {found} is older than {wanted}"


def _run(*command: str, cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_", "GLS_ES_"))}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built in a copy: building leaves folders behind, and would take up stale ones."""
    reason = _needs()
    if reason is not None:
        pytest.skip(reason)
    copy, target = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for part in (*PARTS, *(page.name for page in ROOT.glob("*.md"))):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so"))
        else:
            shutil.copy2(source, copy / part)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    _run("-c", build, str(target), cwd=copy)
    (found,) = target.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that pip makes of the source distribution, without a network."""
    target = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    _run("-m", "pip", "wheel", "-q", *offline, "--wheel-dir", str(target), str(sdist), cwd=target, CC="/bin/false")
    (found,) = target.iterdir()
    with zipfile.ZipFile(found) as archive:
        yield archive


@pytest.fixture(scope="module")
def unpacked(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for site-packages."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def _info(wheel: zipfile.ZipFile) -> str:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    return info


def test_only_gls_es_lands_in_site_packages(wheel: zipfile.ZipFile) -> None:
    version = PYPROJECT["project"]["version"]
    assert {name.split("/")[0] for name in wheel.namelist()} == {"gls_es", f"gls_es-{version}.dist-info"}


def test_the_python_files_are_those_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    files = sources()
    assert sorted(name for name in wheel.namelist() if name.endswith(".py")) == sorted(files)
    assert all(wheel.read(name) == path.read_bytes() for name, path in files.items())


def test_the_other_files_are_those_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    """Data, types marker and licences; nothing else, no cache and no stray file."""
    other = {name for name in wheel.namelist() if not name.endswith((".py", "/")) and ".dist-info/" not in name}
    folder = ROOT / "gls_es"
    kept = {path.relative_to(ROOT).as_posix() for path in folder.rglob("*") if path.is_file() and _is_data(path)}
    assert other == kept
    assert {"gls_es/py.typed", "gls_es/data/digits.csv.gz", "gls_es/data/digits_LICENSE.txt"} <= other


def _is_data(path: Path) -> bool:
    return path.suffix not in (".py", ".pyc", ".c", ".h", ".so")


def test_metadata(wheel: zipfile.ZipFile) -> None:
    info = _info(wheel)
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    lines = wheel.read(f"{info}/METADATA").decode().splitlines()
    assert "License-Expression: Apache-2.0" in lines
    (wanted,) = (line.removeprefix("Requires-Dist: evotorch") for line in lines if line.startswith("Requires-Dist: evotorch"))  # fmt: skip # noqa: E501
    assert sorted(wanted.split(",")) == ["<0.7", ">=0.6.1"]
    scripts = ConfigParser()
    scripts.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert dict(scripts["console_scripts"]) == PYPROJECT["project"]["scripts"]


def test_the_source_distribution_holds_the_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert tests <= names
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "docs/concepts.md", "docs/custom_problem.md"} <= names


def test_the_command_line_runs_from_the_wheel_alone(unpacked: Path, tmp_path: Path) -> None:
    out = _run("-m", "gls_es", "--version", cwd=tmp_path, PYTHONPATH=str(unpacked))
    assert PYPROJECT["project"]["version"] in out


def test_a_named_problem_and_its_data_come_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "import gls_es, gls_es.cli.app, gls_es.problems\n"
        "from gls_es.problem.registry import resolve\n"
        "problem = resolve('digits-cnn3')(seed=0)\n"
        "print(gls_es.__file__, gls_es.cli.app.__file__, gls_es.problems.__file__, len(problem.data.test))"
    )
    out = _run("-c", code, cwd=tmp_path, PYTHONPATH=str(unpacked), EVOTORCH_VERBOSE_LEVEL="0")
    *files, images = out.split()
    assert all(Path(file).is_relative_to(unpacked) for file in files)
    assert images == "360"
