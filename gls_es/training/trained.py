"""What a checkpoint holds, as a problem, a network, and the data it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from gls_es.data import Dataset
from gls_es.errors import CheckpointError, ConfigError
from gls_es.network import Network
from gls_es.problem.own import owned
from gls_es.problem.registry import named_by_file, resolve
from gls_es.training.checkpoint import load_checkpoint
from gls_es.training.names import in_run
from gls_es.zoo import located

if TYPE_CHECKING:
    from gls_es.problem import CertifiedTrainingProblem


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        network: with the trained weights.
        problem: the problem it was trained on; its data are loaded when asked for.
        problem_name: what ``--problem`` was.
        eps: the radius it was trained for.
        method: the relaxation it was trained with.
        digest: SHA-256 of the checkpoint.
        content: everything in the checkpoint.
    """

    network: Network
    problem: CertifiedTrainingProblem
    problem_name: str
    eps: float
    method: str
    digest: str
    content: dict[str, Any]

    def region(self, eps: float | None = None) -> dict[str, Any]:
        """What ``gls_es.certify`` takes as ``eps`` and ``norm`` for the regions of the training.

        Args:
            eps: the largest radius; None: that of the training.
        """
        shape = self.problem.perturbation
        return {"eps": shape.radii(self.eps if eps is None else eps), "norm": shape.norm}

    def dataset(self, data_root: str | Path | None = None) -> Dataset:
        """The dataset the network was trained on, from ``data_root`` or where it was then."""
        if data_root is not None:
            self.problem.data_root = str(data_root)
        return self.problem.data


def load(
    path: str | Path, module: nn.Module | None = None, *, problem: str | type[CertifiedTrainingProblem] | None = None
) -> nn.Module:
    """The trained module of a checkpoint, in eval mode on the CPU: ``gls_es.load("runs/ref")``.

    Args:
        path: as for :func:`load_trained`.
        module: of a run of ``gls_es.train(module, data, ...)``, the module that was handed over: its weights are
            replaced in a copy.
        problem: as for :func:`load_trained`.

    Raises:
        CheckpointError, ConfigError: as :func:`load_trained`.
    """
    if module is not None:
        if problem is not None:
            raise ConfigError("load() takes a module or a problem, not both; a run has one of them.")
        problem = owned(module)
    network = load_trained(path, problem=problem).network
    return network.module()


def _file(path: str | Path) -> Path:
    """The checkpoint that a path means."""
    if not str(path).startswith("zoo:") and Path(path).is_dir():
        return in_run(Path(path)) or Path(path)
    return Path(located(path))


_NEEDED = ("problem", "problem_args", "eps", "method", "center", "buffers", "input_shape", "digest")


def trusted_problem(
    path: Path, named: str, given: str | type[CertifiedTrainingProblem] | None
) -> type[CertifiedTrainingProblem]:
    """The problem class of a checkpoint, without running code only because the checkpoint says so.

    A registered problem or an installed module is what the user installed; a file anywhere on the disk is not, so its
    name must come from the user.

    Raises:
        CheckpointError: the checkpoint names a file and the user did not, or a problem that cannot be found.
        ConfigError: the user's problem cannot be found.
    """
    if given is None and named_by_file(named):
        raise CheckpointError(
            f"{path}: was trained on the problem in the file {named!r}; if you trust that file, name it: "
            f"--problem {named}"
        )
    if given is not None:
        return resolve(given) if isinstance(given, str) else given
    with held_in(path):
        return resolve(named)


@contextmanager
def held_in(path: Path) -> Iterator[None]:
    """Turn the refusal of an argument into one of the checkpoint that holds it: the user asked for nothing wrong."""
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"{path}: cannot be used here: {error}") from error


def load_trained(path: str | Path, *, problem: str | type[CertifiedTrainingProblem] | None = None) -> Trained:
    """Load a checkpoint written by ``gls-es train``.

    Args:
        path: the checkpoint, a run folder that holds one, or ``zoo:NAME`` for one that comes with gls-es.
        problem: the problem's name, needed where the checkpoint names a file of Python code: nothing in a checkpoint
            makes gls-es execute a file that the user did not name. Or the class itself: after
            ``gls_es.train(module, data)`` it is ``gls_es.training.owned(module)``.

    Raises:
        CheckpointError: the file is missing, damaged, or does not fit the problem it names, or that cannot be found.
        ConfigError: the problem given cannot be found.
    """
    path = _file(path)
    content = load_checkpoint(path)
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise CheckpointError(f"{path}: not the checkpoint of a training run (it has no {', '.join(missing)}).")
    cls = trusted_problem(Path(path), content["problem"], problem)
    arguments = content["problem_args"]
    here = {"device": "cpu"} if "device" in arguments else {}  # it may come from a machine with other devices
    with held_in(path):
        rebuilt = cls.rebuilt(arguments | here, tuple(content["input_shape"]))
    network = rebuilt.network
    if network.num_parameters != len(content["center"]):
        raise CheckpointError(
            f"{path}: holds {len(content['center'])} weights, but the network of {content['problem']!r}, or the module "
            f"that was given for it, has {network.num_parameters}."
        )
    with held_in(path):
        network = network.holding(content["center"], content["buffers"])
    return Trained(
        network=network,
        problem=rebuilt,
        problem_name=content["problem"],
        eps=content["eps"],
        method=content["method"],
        digest=str(content["digest"]),
        content=content,
    )
