"""Where the data sets are on this machine, without reading them: what ``gls-es problems`` says."""

from __future__ import annotations

from pathlib import Path

from gls_es.data.cifar10 import BINARY, PICKLED, find_layout
from gls_es.data.idx import FASHION_MNIST, MNIST, IdxSource, find_idx
from gls_es.data.tinyimagenet import find_tinyimagenet


def find_mnist(root: str | Path | None = None) -> Path:
    """The folder of MNIST's files below ``root``, see :func:`gls_es.data.load_mnist`.

    Raises:
        DataError: a file is missing; the message says which, and where to get it.
    """
    return _folder(MNIST, root)


def find_fashion_mnist(root: str | Path | None = None) -> Path:
    """The folder of Fashion-MNIST's files, see :func:`gls_es.data.load_fashion_mnist`.

    Raises:
        DataError: a file is missing; the message says which, and where to get it.
    """
    return _folder(FASHION_MNIST, root)


def find_cifar10(root: str | Path | None = None) -> Path:
    """The folder of CIFAR-10's files below ``root``, see :func:`gls_es.data.load_cifar10`.

    Raises:
        DataError: no version is complete; the message says what is missing, and where to get it.
    """
    return find_layout((BINARY, PICKLED), root)[1]


def _folder(source: IdxSource, root: str | Path | None) -> Path:
    return next(iter(find_idx(source, root).values())).parent


__all__ = ["find_cifar10", "find_fashion_mnist", "find_mnist", "find_tinyimagenet"]
