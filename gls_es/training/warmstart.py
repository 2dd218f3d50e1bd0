"""Starting from the weights of another run, or of any file of named tensors, instead of random ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gls_es.errors import CheckpointError
from gls_es.network import Network
from gls_es.training.checkpoint import read_plain, verified

_MARK = "@sha256:"
_NAMED = 3  # names of a kind that a message gives


@dataclass(frozen=True)
class Start:
    """Weights to begin with.

    Attributes:
        path: the file they come from, absolute.
        digest: SHA-256: of its contents, as a checkpoint stores it; of the file, if it is another one.
        tensors: parameters and floating-point buffers by name.
    """

    path: Path
    digest: str
    tensors: dict[str, Tensor]

    @property
    def source(self) -> str:
        """File and digest in one text, as :func:`read_start` takes it."""
        return f"{self.path}{_MARK}{self.digest}"

    def network(self, own: Network) -> Network:
        """The network with these weights and buffers in the place of its own.

        Raises:
            CheckpointError: names or shapes are others.
        """
        parameters = own.parameter_shapes()
        wanted = parameters | {name: tuple(buffer.shape) for name, buffer in own.buffers().items()}
        found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        if found != wanted:
            raise CheckpointError(f"{self.path}: does not fit the network, {_difference(found, wanted)}.")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.tensors.values()):
            raise CheckpointError(f"{self.path}: holds weights that are not finite.")
        like = own.parameter_vector()
        vector = torch.cat([like[:0], *(self.tensors[name].reshape(-1).to(like) for name in parameters)])
        return own.holding(vector, {name: self.tensors[name] for name in own.buffers()})


def read_start(source: str | Path) -> Start:
    """Read the file that training is to begin with.

    Args:
        source: a checkpoint of ``gls-es train``; or the state dict of a module, saved by ``torch.save``.
            ``FILE@sha256:DIGEST`` refuses every other version of the file.

    Raises:
        CheckpointError: the file cannot be read, holds something else, or is another one than the digest says.
    """
    name, mark, wanted = str(source).rpartition(_MARK)
    path = Path(name if mark else source)
    start = _read(path)
    if mark and start.digest != wanted.lower():
        raise CheckpointError(f"{path}: is not the file it was, its SHA-256 is now {start.digest}.")
    return start


def _read(path: Path) -> Start:
    table = read_plain(path)
    if "digest" not in table:  # somebody else's
        return Start(path.resolve(), hashlib.sha256(path.read_bytes()).hexdigest(), _floating(path, table))
    table = verified(path, table)
    missing = [key for key in ("parameters", "center", "buffers") if key not in table]
    if missing:
        raise CheckpointError(f"{path}: not the checkpoint of a training run (it has no {', '.join(missing)}).")
    sizes = [math.prod(shape) for shape in table["parameters"].values()]
    pieces = table["center"].split(sizes)
    shaped = {
        name: piece.reshape(shape) for (name, shape), piece in zip(table["parameters"].items(), pieces, strict=True)
    }
    return Start(path.resolve(), table["digest"], shaped | table["buffers"])


def _floating(path: Path, table: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors that matter: not the counts of batches that BatchNorm keeps."""
    if not table or not all(isinstance(value, Tensor) for value in table.values()):
        raise CheckpointError(
            f"{path}: holds no named tensors; save a module's state_dict(), or take a checkpoint of gls-es train."
        )
    return {name: tensor for name, tensor in table.items() if tensor.is_floating_point()}


def _difference(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """What differs, in words."""
    other = [n for n in wanted if n in found and found[n] != wanted[n]]
    parts = [f"{name} is {found[name]} and not {wanted[name]}" for name in other[:_NAMED]]
    for verb, names in (
        ("it lacks", [n for n in wanted if n not in found]),
        ("it has also", [n for n in found if n not in wanted]),
    ):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            parts.append(f"{verb} {', '.join(names[:_NAMED])}{more}")
    return "; ".join(parts)
