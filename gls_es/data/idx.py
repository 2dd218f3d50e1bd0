"""MNIST and Fashion-MNIST from the IDX files as they were published, in torchvision's layout, with no download.

The files are read here and not through ``torchvision.datasets``: that needs them unpacked, does not check what they
hold, prefers an older ``processed`` folder without a word, and cannot be imported at all where torchvision's compiled
operators do not match the installed PyTorch (the default wheel beside a CPU build of PyTorch). The layout is
torchvision's all the same: ROOT/MNIST/raw and ROOT/FashionMNIST/raw, each file unpacked or as ``.gz``.

IDX: two zero bytes, a type code (8 for bytes), the number of axes, each size as a big-endian uint32, then the values.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gls_es.data.dataset import Dataset, Split
from gls_es.data.files import PublishedFile, find, read
from gls_es.data.roots import VARIABLE, default_root
from gls_es.errors import DataError


@dataclass(frozen=True)
class IdxSource:
    """One dataset in IDX files.

    Attributes:
        name: name of the resulting :class:`Dataset`.
        title: name in messages.
        folder: where the files are, below the root.
        files: training images and labels, then test images and labels.
        elsewhere: folders searched after the root.
        advice: how to get the files, a clause for the message about a missing one.
    """

    name: str
    title: str
    folder: str
    files: tuple[PublishedFile, PublishedFile, PublishedFile, PublishedFile]
    elsewhere: tuple[Path, ...]
    advice: str


# Content digests; MNIST as published by LeCun, Cortes and Burges, Fashion-MNIST by Zalando (MIT licence).
MNIST = IdxSource(
    name="mnist",
    title="MNIST",
    folder="MNIST/raw",
    files=(
        PublishedFile(
            "train-images-idx3-ubyte", 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        PublishedFile(
            "train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        PublishedFile(
            "t10k-images-idx3-ubyte", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        PublishedFile(
            "t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    ),
    elsewhere=(),
    advice="gls-es data fetch mnist or torchvision.datasets.MNIST(ROOT, download=True) fetches them over a network",
)
FASHION_MNIST = IdxSource(
    name="fashion-mnist",
    title="Fashion-MNIST",
    folder="FashionMNIST/raw",
    files=(
        PublishedFile(
            "train-images-idx3-ubyte", 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        PublishedFile(
            "train-labels-idx1-ubyte", 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        PublishedFile(
            "t10k-images-idx3-ubyte", 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        PublishedFile(
            "t10k-labels-idx1-ubyte", 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    ),
    elsewhere=(Path("/usr/share/datasets/fashion-mnist"),),  # Debian's dataset-fashion-mnist
    advice="install Debian's package dataset-fashion-mnist, or let gls-es data fetch fashion-mnist or "
    "torchvision.datasets.FashionMNIST(ROOT, download=True) fetch them on a machine with a network",
)


def load_mnist(root: str | Path | None = None) -> Dataset:
    """MNIST: 60,000 + 10,000 digits, images (N, 1, 28, 28) uint8, ten classes, in the published order.

    Args:
        root: folder that holds ``MNIST/raw``; None means $GLS_ES_DATA, then ``./data``.

    Raises:
        DataError: if the root is no folder, or a file is missing or not the published one.
    """
    return load_idx(MNIST, root)


def load_fashion_mnist(root: str | Path | None = None) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 articles, images (N, 1, 28, 28) uint8, ten classes, in the published order.

    Args:
        root: folder that holds ``FashionMNIST/raw``; None means $GLS_ES_DATA, then ``./data``. What is not there is
            looked for in ``/usr/share/datasets/fashion-mnist``, where Debian's package puts it.

    Raises:
        DataError: if the root is no folder, or a file is missing or not the published one.
    """
    return load_idx(FASHION_MNIST, root)


def load_idx(source: IdxSource, root: str | Path | None = None) -> Dataset:
    """Read the four files of ``source`` (see :func:`load_mnist`).

    Raises:
        DataError: if the root is no folder, or a file is missing or not the one that ``source`` describes.
    """
    paths = find_idx(source, root)
    train_x, train_y, test_x, test_y = (parse_idx(read(file, paths[file]), paths[file]) for file in source.files)
    return Dataset(
        name=source.name,
        train=Split(images=train_x.unsqueeze(1), labels=train_y.long(), scale=255.0),
        test=Split(images=test_x.unsqueeze(1), labels=test_y.long(), scale=255.0),
        num_classes=10,
    )


def find_idx(source: IdxSource, root: str | Path | None = None) -> dict[PublishedFile, Path]:
    """Where the four files of ``source`` are; their contents are not looked at.

    Raises:
        DataError: the root is no folder, or a file is missing; the message says where to get it.
    """
    folders = (default_root(root) / source.folder, *source.elsewhere)
    paths = {file: path for file in source.files if (path := find(file, folders)) is not None}
    missing = [file.name for file in source.files if file not in paths]
    if missing:
        raise DataError(
            f"{source.title} lacks {', '.join(missing)}, looked for (unpacked and as .gz) in "
            f"{' and '.join(map(str, folders))}; {source.advice}, or name another root with --data or {VARIABLE}."
        )
    return paths


def parse_idx(content: bytes, path: Path) -> Tensor:
    """The values of an IDX file of bytes, (N,) or (N, H, W) uint8.

    Args:
        content: the whole file.
        path: where it came from, for messages.

    Raises:
        DataError: if the header is not that of bytes, or does not match the length.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0:
        raise DataError(f"{path} is no IDX file of bytes: it begins with {content[:4].hex()!r}.")
    axes = content[3]
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", content[4:start]) if len(content) >= start else ()
    if not shape or math.prod(shape) != len(content) - start:
        raise DataError(f"{path} has {len(content):,} bytes, which do not fit the shape {shape} in its header.")
    values = bytearray(content[start:])  # torch wants memory that may be written to
    return (
        torch.frombuffer(values, dtype=torch.uint8).reshape(shape) if values else torch.empty(shape, dtype=torch.uint8)
    )
