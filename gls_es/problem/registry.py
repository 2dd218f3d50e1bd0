"""How a problem is found by name.

Built-in problems are listed here as text, so that nothing depends on the package that holds them; other packages add
theirs through the entry-point group ``gls_es.problems``; any class can be named as ``package.module:Class`` or
``path/to/file.py:Class``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gls_es.basics.suggestions import ending, question
from gls_es.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import nn

    from gls_es.problem import CertifiedTrainingProblem

BUILT_IN = {
    "cifar-cnn3": "gls_es.problems.cifar:CifarCNN3",
    "cifar-cnn3-wide": "gls_es.problems.cifar:CifarCNN3Wide",
    "cifar-cnn5": "gls_es.problems.cifar:CifarCNN5",
    "cifar-cnn7": "gls_es.problems.cifar:CifarCNN7",
    "digits-cnn3": "gls_es.problems.digits:DigitsCNN3",
    "digits-cnn5": "gls_es.problems.digits:DigitsCNN5",
    "digits-cnn7": "gls_es.problems.digits:DigitsCNN7",
    "fashion-cnn3": "gls_es.problems.fashion:FashionCNN3",
    "fashion-cnn3-wide": "gls_es.problems.fashion:FashionCNN3Wide",
    "fashion-cnn5": "gls_es.problems.fashion:FashionCNN5",
    "fashion-cnn7": "gls_es.problems.fashion:FashionCNN7",
    "mnist-cnn3": "gls_es.problems.mnist:MnistCNN3",
    "mnist-cnn3-wide": "gls_es.problems.mnist:MnistCNN3Wide",
    "mnist-cnn5": "gls_es.problems.mnist:MnistCNN5",
    "mnist-cnn7": "gls_es.problems.mnist:MnistCNN7",
    "tinyimagenet-cnn5": "gls_es.problems.tinyimagenet:TinyImageNetCNN5",
    "tinyimagenet-cnn7": "gls_es.problems.tinyimagenet:TinyImageNetCNN7",
}
"""The problems that come with gls-es (a checkout has no entry points, hence a table)."""

GROUP = "gls_es.problems"
"""The entry-point group other packages add problems to."""


@dataclass(frozen=True)
class ProblemInfo:
    """One line of ``gls-es problems``.

    Attributes:
        name: what ``--problem`` takes.
        target: "module:Class".
        summary: the class' first docstring line.
        eps: the certification radius, by default.
        radii: all radii that are usual for the data.
        data: where the images come from.
        data_found: where they are on this machine, or None.
        data_missing: what is missing, and how to get it, or None.
        parameters: length of the weight vector; None if it could not be built.
        error: why the problem could not be loaded, or None.
    """

    name: str
    target: str
    summary: str = ""
    eps: float | None = None
    radii: tuple[float, ...] = ()
    data: str = ""
    data_found: str | None = None
    data_missing: str | None = None
    parameters: int | None = None
    error: str | None = None


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """All registered names."""
    return sorted({*BUILT_IN, *_entry_points()})


def resolve(name: str) -> type[CertifiedTrainingProblem]:
    """The problem class called ``name``.

    Raises:
        ConfigError: nothing is called so, or what is cannot be imported or is no problem.
    """
    return _load(name, _target(name))


def check_name(name: str) -> None:
    """Refuse what no problem is called, without importing anything.

    Raises:
        ConfigError: nothing is called so; of a class in a file, the file is not there.
    """
    module = _target(name).rpartition(":")[0]
    if named_by_file(name) and not Path(module).is_file():
        raise ConfigError(f"problem file {module}: there is no such file.")


def _target(name: str) -> str:
    """Where the problem called ``name`` is, "module:Class"."""
    if name in BUILT_IN or ":" in name:
        return BUILT_IN.get(name, name)
    points = _entry_points()
    if name in points:
        return points[name].value
    hint = question(name, names())
    raise ConfigError(
        f"unknown problem {name!r}: {hint}choose one of {', '.join(names())}, or name a class as package.module:Class."
    )


def named_by_file(name: str) -> bool:
    """Whether a problem's name is a file of code, path/to/file.py:Class, which runs only if the user names it."""
    return name.rpartition(":")[0].endswith(".py")


def registered_name(cls: type) -> str:
    """The name a class is found by: its registered one, else "module:Class"."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    for name, known in BUILT_IN.items():
        if known == target:
            return name
    for name, point in _entry_points().items():
        if point.value == target:
            return name
    module = sys.modules.get(cls.__module__)
    source = getattr(module, "__gls_es_file__", None)
    script = getattr(module, "__file__", None)
    if cls.__module__ == "__main__" and script is not None:
        source = str(Path(script).resolve())  # a script; no other process finds it by "__main__"
    return target if source is None else f"{source}:{cls.__qualname__}"


def available(root: str | Path | None = None) -> dict[str, ProblemInfo]:
    """Every registered problem; one that cannot be loaded says why instead of stopping the others.

    Args:
        root: folder of data sets; whether a problem's data are there is looked at, not what is in them.
    """
    return {name: _describe(name, None if root is None else str(root)) for name in names()}


def _largest(eps: Any) -> float:
    """The largest of a problem's radii."""
    import numpy as np

    from gls_es.basics.checks import radius

    return radius(eps) if isinstance(eps, str) else float(np.asarray(eps).max())


def _describe(name: str, root: str | None) -> ProblemInfo:
    target = BUILT_IN.get(name) or _entry_points()[name].value
    try:
        cls = resolve(name)
    except ConfigError as error:
        return ProblemInfo(name, target, error=str(error))
    try:
        found, missing = cls.find_data(root), None
    except DataError as error:
        found, missing = None, str(error)
    module = shapes(cls)
    return ProblemInfo(
        name,
        target,
        summary=next(iter((cls.__doc__ or "").strip().splitlines()), ""),
        eps=(largest := _largest(cls.eps)),
        radii=cls.radii or (largest,),
        data=cls.data_source,
        data_found=found,
        data_missing=missing,
        parameters=None if module is None else sum(p.numel() for p in module.parameters()),
    )


def shapes(cls: type[CertifiedTrainingProblem]) -> nn.Module | None:
    """The problem's network without numbers in it (on torch's meta device), which costs no time and no memory.

    Returns:
        None for a problem whose network depends on the constructor's arguments or on the data.
    """
    try:
        import torch  # names are found without it

        with torch.device("meta"):
            return cls.make_network(cls.__new__(cls))
    except Exception:  # whatever make_network misses on an object that was not constructed
        return None


def _load(name: str, target: str) -> type[CertifiedTrainingProblem]:
    from gls_es.problem import CertifiedTrainingProblem

    module_name, _, attribute = target.rpartition(":")
    module = _import(name, module_name)
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if found is None:
        hint = ending(attribute, vars(module))
        raise ConfigError(f"problem {name!r}: {module_name} has no {attribute!r}{hint}")
    if not (isinstance(found, type) and issubclass(found, CertifiedTrainingProblem)):
        raise ConfigError(f"problem {name!r}: {attribute} must be a subclass of gls_es.CertifiedTrainingProblem.")
    return found


def _import(name: str, module_name: str) -> ModuleType:
    try:
        if module_name.endswith(".py"):
            return _import_file(Path(module_name))
        return importlib.import_module(module_name)
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        beside = Path(f"{module_name}.py")
        file = f"{beside}:{name.rpartition(':')[2]}"
        hint = f"; the file {beside} is here, so name it: {file}" if beside.is_file() else ""
        raise ConfigError(f"problem {name!r}: cannot import {module_name!r} ({reason}){hint}.") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"problem file {path}: there is no such file.")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]  # two files may have one name
    module_name = f"gls_es_problem_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError(f"problem file {path}: not a Python file.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # so that it can import what lies beside it, as `python FILE` can
        sys.path.append(folder)
    module = importlib.util.module_from_spec(spec)
    module.__gls_es_file__ = str(path.resolve())  # type: ignore[attr-defined]
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]  # or the next attempt would find half a module
        raise
    return module
