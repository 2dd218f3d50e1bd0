"""Plain data: what a checkpoint may hold, and its one digest.

Plain are tensors (strided, of a real dtype), bool, int, float, str, None, and lists and dicts of plain values, the
latter with str keys; exactly these types, so that a file never depends on a class of somebody's code.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_DTYPES = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    }
)
_DEPTH = 32
_REPEATS = 1024  # how often a file may repeat a string it holds once; dict keys of many equal rows are such strings


class NotPlainError(ValueError):
    """A value that is not plain data, or more of it than a file of that size can mean."""


@dataclass
class Budget:
    """How much plain data a file of so many bytes may turn into.

    A pickle can name one list or one storage many times over, so a small hostile file may stand for endless data.
    """

    tensors: float = float("inf")
    rest: float = float("inf")

    @classmethod
    def of_file(cls, size: int) -> Budget:
        """The budget of a file of ``size`` bytes: every tensor is in it once, every other value takes a byte."""
        return cls(tensors=size, rest=_REPEATS * size)

    def spend(self, *, tensors: int = 0, rest: int = 1) -> None:
        """Take off what one more value needs.

        Raises:
            NotPlainError: nothing is left.
        """
        self.tensors -= tensors
        self.rest -= rest
        if self.tensors < 0 or self.rest < 0:
            raise NotPlainError("it stands for far more data than it holds")


def plain_copy(value: Any, *, budget: Budget | None = None, share: bool = False) -> Any:
    """A copy of plain data with every tensor detached, contiguous and on the CPU.

    Args:
        value: the data.
        budget: what the data may amount to; None is without limit.
        share: whether tensors that are so already may keep their storage; otherwise each gets one of its own.

    Raises:
        NotPlainError: something is not plain; the message names it.
    """
    return _Copier(budget or Budget(), share).copy(value, "", 0)


@dataclass(frozen=True)
class _Copier:
    budget: Budget
    share: bool

    def copy(self, value: Any, where: str, depth: int) -> Any:
        if depth > _DEPTH:
            raise NotPlainError(f"{where.partition('.')[0]!r} is nested deeper than {_DEPTH} levels")
        kind = type(value)
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        self.budget.spend(rest=1 + (len(value) if kind is str else 0))
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return [self.copy(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
        if kind is dict:
            prefix = f"{where}." if where else ""
            return {self._key(key, where): self.copy(item, f"{prefix}{key}", depth + 1) for key, item in value.items()}
        raise NotPlainError(
            f"{where or 'it'} is of type {kind.__module__}.{kind.__qualname__}, "
            "and only tensors, numbers, strings, None, lists and dicts are kept"
        )

    def _key(self, key: Any, where: str) -> str:
        if type(key) is not str:
            raise NotPlainError(f"{where or 'it'} has the key {key!r}, and keys are strings")
        self.budget.spend(rest=1 + len(key))
        return key

    def _tensor(self, value: Tensor, where: str) -> Tensor:
        if value.layout != torch.strided or value.dtype not in _DTYPES or value.is_meta:
            raise NotPlainError(f"{where} is a tensor of {value.layout} and {value.dtype}, which is not kept")
        size = value.numel() * value.element_size()
        self.budget.spend(tensors=size)
        whole = value.is_contiguous() and not value.is_neg() and value.untyped_storage().nbytes() == size
        if self.share and whole and value.device.type == "cpu":
            return value.detach()
        copy = torch.empty(value.shape, dtype=value.dtype, device="cpu")
        return copy.copy_(value.detach())


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of plain data in one canonical form.

    Every value enters with its type and its length, keys in sorted order, numbers and tensors bit for bit (-0.0 is not
    0.0, and one NaN is not another), so data of equal digests are equal.
    """
    sha = hashlib.sha256(b"gls-es plain data 1\n")
    _absorb(sha, dict(content))
    return sha.hexdigest()


def _absorb(sha: hashlib._Hash, value: Any) -> None:
    if isinstance(value, dict):
        sha.update(b"d%d;" % len(value))
        for key in sorted(value):
            _absorb(sha, key)
            _absorb(sha, value[key])
    elif isinstance(value, list):
        sha.update(b"l%d;" % len(value))
        for item in value:
            _absorb(sha, item)
    elif isinstance(value, Tensor):
        shape = ",".join(str(length) for length in value.shape)
        sha.update(f"t{value.dtype}({shape});".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, float):
        sha.update(b"f" + struct.pack(">d", value))
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        sha.update(b"s%d;" % len(text) + text)
    else:  # None, True, False and integers write themselves in one way only
        sha.update(f"{type(value).__name__}:{value};".encode())
