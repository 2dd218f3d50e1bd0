"""Problems by name: built in, by entry point, by module, by file; and what is said of those that are not found."""

import subprocess
import sys
from pathlib import Path

import pytest

from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.registry import BUILT_IN, available, names, registered_name, resolve
from tests.problem import toys

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
from tests.problem.toys import Blobs

class Mine(Blobs):
    '''Mine, in one line.'''
    eps = {eps}
"""


def file(folder: Path, name: str = "mine.py", eps: float = 0.2) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(SOURCE.format(eps=eps))
    return path


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_built_in_problems(name: str) -> None:
    cls = resolve(name)
    assert issubclass(cls, CertifiedTrainingProblem)
    assert registered_name(cls) == name
    assert name in names()


def test_a_class_of_a_module() -> None:
    assert resolve("tests.problem.toys:Blobs") is toys.Blobs
    assert registered_name(toys.Blobs) == "tests.problem.toys:Blobs"
    assert resolve(registered_name(toys.Outer.Inner)) is toys.Outer.Inner


def test_a_class_of_a_file(tmp_path: Path) -> None:
    path = file(tmp_path)
    cls = resolve(f"{path}:Mine")
    assert (cls.__name__, cls.eps) == ("Mine", 0.2)
    assert registered_name(cls) == f"{path}:Mine"
    assert resolve(f"{path}:Mine") is cls


def test_two_files_of_one_name_are_two_files(tmp_path: Path) -> None:
    one, other = file(tmp_path / "a", eps=0.2), file(tmp_path / "b", eps=0.3)
    first, second = resolve(f"{one}:Mine"), resolve(f"{other}:Mine")
    assert (first.eps, second.eps) == (0.2, 0.3)
    assert registered_name(first) == f"{one}:Mine"
    assert registered_name(second) == f"{other}:Mine"


def test_a_relative_file_is_remembered_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert registered_name(resolve("mine.py:Mine")) == f"{path}:Mine"


def test_a_file_that_failed_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"cannot import .*broken.py' .division by zero"):
            resolve(f"{path}:Mine")
    path.write_text(SOURCE.format(eps=0.4))
    assert resolve(f"{path}:Mine").eps == 0.4


def test_a_script_is_named_by_its_file(tmp_path: Path) -> None:
    path = file(tmp_path)
    with path.open("a") as out:
        out.write("\nif __name__ == '__main__':\n")
        out.write("    from gls_es.problem.registry import registered_name\n    print(registered_name(Mine))\n")
    environment = {"PYTHONPATH": str(ROOT), "EVOTORCH_VERBOSE_LEVEL": "-1"}
    done = subprocess.run([sys.executable, str(path)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{path}:Mine"


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that brings two problems, one of which cannot be loaded."""
    file(tmp_path, "gls_es_fake_package.py")
    info = tmp_path / "gls_es_fake_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gls-es-fake-package\nVersion: 1.0\n")
    points = "their-blobs = gls_es_fake_package:Mine\nlost = gls_es_fake_package:Missing\n"
    (info / "entry_points.txt").write_text(f"[gls_es.problems]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gls_es_fake_package", raising=False)
    return tmp_path


def test_problems_of_other_packages(distribution: Path) -> None:
    cls = resolve("their-blobs")
    assert cls.__module__ == "gls_es_fake_package"
    assert registered_name(cls) == "their-blobs"
    with pytest.raises(ConfigError, match="unknown problem 'their-blob': did you mean 'their-blobs'"):
        resolve("their-blob")


def test_one_broken_problem_does_not_hide_the_others(distribution: Path) -> None:
    found = available()
    assert set(found) == {*BUILT_IN, "their-blobs", "lost"}
    assert found["lost"].error is not None
    assert "has no 'Missing'" in found["lost"].error
    theirs = found["their-blobs"]
    assert (theirs.summary, theirs.eps, theirs.error) == ("Mine, in one line.", 0.2, None)
    assert theirs.parameters == toys.Blobs().solution_length
    assert found["digits-cnn3"].parameters == 1258
    assert found["digits-cnn3"].data_found == "built in"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit-cnn3", "unknown problem 'digit-cnn3': did you mean 'digits-cnn3'?"),
        ("xyz", r"unknown problem 'xyz': choose one of cifar-cnn3, "),
        ("", "unknown problem ''"),
        ("no.such.module:Class", "cannot import 'no.such.module'"),
        (":Class", "cannot import ''"),
        (".relative:Class", "cannot import '.relative'"),
        ("tests.problem.toys:Blob", "has no 'Blob'; did you mean 'Blobs'"),
        ("tests.problem.toys:", "has no ''"),
        ("tests.problem.toys:NotAProblem", "NotAProblem must be a subclass of gls_es.CertifiedTrainingProblem"),
        ("tests.problem.toys:blobs", "blobs must be a subclass"),
        ("missing.py:Class", "problem file missing.py: there is no such file"),
    ],
)
def test_what_is_not_found(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_a_problem_file_imports_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_nets_beside.py").write_text("from tests.problem.toys import Blobs\n")
    (tmp_path / "own.py").write_text("from my_nets_beside import Blobs\nclass Mine(Blobs):\n    eps = 0.3\n")
    assert resolve(f"{tmp_path / 'own.py'}:Mine").eps == 0.3
    assert sys.path[-1] == str(tmp_path)  # behind all others, so that nothing is hidden


def test_a_module_that_is_a_file_beside_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "very_mine.py").touch()
    with pytest.raises(ConfigError, match=r"the file very_mine.py is here, so name it: very_mine.py:Lines"):
        resolve("very_mine:Lines")
    with pytest.raises(ConfigError, match="did you mean 'digits-cnn3'"):
        resolve("digits-cnn")
