"""Weights as a safetensors file: tensors by name, nothing that could run; a problem says whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gls_es.errors import FormatError
from gls_es.formats.extras import library
from gls_es.formats.files import read_file, sha256, write_file
from gls_es.network import Network

if TYPE_CHECKING:
    from gls_es.data import Dataset
    from gls_es.problem import CertifiedTrainingProblem

_COUNTER = "num_batches_tracked"  # of BatchNorm; counts training steps, and no output depends on it


@dataclass(frozen=True, eq=False)
class ProblemWeights:
    """A problem's network with weights from a file.

    Attributes:
        network: with the file's weights and buffers; ``gls_es.certify`` takes the network or this.
        problem: the problem.
        problem_name: the name it was found by.
        eps: the problem's radius.
        digest: SHA-256 of the file.
    """

    network: Network
    problem: CertifiedTrainingProblem
    problem_name: str
    eps: float
    digest: str

    def dataset(self, data_root: str | Path | None = None) -> Dataset:
        """The problem's dataset, from ``data_root`` or where the problem finds it."""
        if data_root is not None:
            self.problem.data_root = str(data_root)
        return self.problem.data


def save_safetensors(network: Network, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's parameters and buffers under the names that its module gives them.

    Args:
        network: with its own weights.
        path: the file, replaced as a whole.
        metadata: names and texts to keep in the file's header.

    Raises:
        ConfigError: safetensors is not installed.
        FormatError: the file cannot be written.
    """
    save = library("safetensors.torch", "writing safetensors").save
    state = {name: value.detach().cpu().clone().contiguous() for name, value in network.module().state_dict().items()}
    write_file(path, save(state, dict(metadata or {})))


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU; the file may be hostile.

    Raises:
        ConfigError: safetensors is not installed.
        FormatError: the file is missing, damaged, or holds NaN or infinity.
    """
    return _tensors(Path(path), read_file(path))


def load_safetensors(path: str | Path, *, problem: str, data_root: str | Path | None = None) -> ProblemWeights:
    """The network of a problem with the weights of a safetensors file.

    Args:
        path: the file.
        problem: a name that ``gls-es problems`` lists, package.module:Class, or file.py:Class.
        data_root: folder of the datasets, for problems whose data say what shape an image has.

    Raises:
        ConfigError: there is no such problem, or safetensors is not installed.
        FormatError: the file is missing, damaged, holds NaN or infinity, or does not fit the problem's network; every
            tensor that does not fit is named.
    """
    from gls_es.problem.registry import resolve  # loads EvoTorch, which nothing else here needs

    path = Path(path)
    data = read_file(path)
    tensors = _tensors(path, data)
    found = resolve(problem)
    root: dict[str, Any] = {} if data_root is None else {"data_root": str(data_root)}
    made = found(**root)
    module = made.network.module()
    _fill(module, tensors, path, problem)
    network = Network(module, made.network.input_shape)
    return ProblemWeights(network, made, problem, made.eps, sha256(data))


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    load = library("safetensors.torch", "reading safetensors").load
    try:
        tensors: dict[str, Tensor] = load(data)
    except Exception as error:  # its own type, KeyError for unknown formats, and torch's
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150].rstrip(".")
        raise FormatError(f"{path}: not a safetensors file, or a damaged one ({reason}).") from error
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise FormatError(f"{path}: {name[:60]!r} holds NaN or infinity, and no bound is about such a network.")
    return tensors


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path, problem: str) -> None:
    """Copy the tensors into the module, or say all that does not fit."""
    own = {name: value for name, value in module.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: value for name, value in tensors.items() if not name.endswith(_COUNTER)}
    wrong = [f"it lacks {name!r}" for name in own if name not in given]
    wrong += [f"the network has no {name[:60]!r}" for name in given if name not in own]
    for name in own.keys() & given.keys():
        theirs, ours = given[name], own[name]
        if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
            wrong.append(
                f"{name!r} is {tuple(theirs.shape)} of {theirs.dtype}, and the network's {tuple(ours.shape)} of "
                f"{ours.dtype}"
            )
    if wrong:
        shown = "; ".join(sorted(wrong)[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise FormatError(f"{path}: does not fit the network of problem {problem!r}: {shown}.")
    with torch.no_grad():
        for name, value in given.items():
            own[name].copy_(value)  # state_dict shares memory with the module
