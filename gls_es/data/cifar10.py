"""CIFAR-10 from the published archives, unpacked, with no download.

Both versions hold the same images and one is enough: ROOT/cifar-10-batches-bin (an image is a label byte and 3,072
pixels) or ROOT/cifar-10-batches-py (pickles; torchvision's layout). The first is preferred, as it is no program. A
pickle is opened only after its SHA-256 is that of the published file, and even then by a reader that knows the three
names occurring there and runs nothing else. Why torchvision does not read them: see :mod:`gls_es.data.idx`.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, University of Toronto, 2009.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gls_es.data.dataset import Dataset, Split
from gls_es.data.files import PublishedFile, read
from gls_es.data.roots import VARIABLE, default_root
from gls_es.errors import DataError

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """One published version of the dataset.

    Attributes:
        folder: where the files are, below the root.
        train: the training batches, in order.
        test: the test batch.
        parse: (content, path) -> images (N, 3, 32, 32) uint8 and labels (N,) int64.
    """

    folder: str
    train: tuple[PublishedFile, ...]
    test: PublishedFile
    parse: Callable[[bytes, Path], tuple[Tensor, Tensor]]


def load_cifar10(root: str | Path | None = None) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 photographs, images (N, 3, 32, 32) uint8 (RGB), ten classes, in the published order.

    Args:
        root: folder that holds ``cifar-10-batches-bin`` or ``cifar-10-batches-py``; None means $GLS_ES_DATA, then
            ``./data``.

    Raises:
        DataError: if the root is no folder, or a file is missing or not the published one.
    """
    return load_layouts((BINARY, PICKLED), root)


def load_layouts(layouts: tuple[Layout, ...], root: str | Path | None = None) -> Dataset:
    """Read the first of ``layouts`` whose files are all there (see :func:`load_cifar10`).

    Raises:
        DataError: if the root is no folder, no layout is complete, or a file is not the one described.
    """
    return _load(*find_layout(layouts, root))


def find_layout(layouts: tuple[Layout, ...], root: str | Path | None = None) -> tuple[Layout, Path]:
    """The first of ``layouts`` whose files are all there, and its folder; their contents are not looked at.

    Raises:
        DataError: the root is no folder, or no layout is complete; the message says where to get one.
    """
    base = default_root(root)
    lacks = []
    for layout in layouts:
        folder = base / layout.folder
        missing = [file.name for file in (*layout.train, layout.test) if not os.path.isfile(folder / file.name)]
        if not missing:
            return layout, folder
        lacks.append(f"{folder} lacks {', '.join(missing)}")
    raise DataError(
        f"CIFAR-10 is incomplete: {'; '.join(lacks)}. gls-es data fetch cifar10, or unpack cifar-10-binary.tar.gz or "
        f"cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) in {base}, "
        f"or name another root with --data or {VARIABLE}."
    )


def _load(layout: Layout, folder: Path) -> Dataset:
    def split(files: tuple[PublishedFile, ...]) -> Split:
        parts = [layout.parse(read(file, folder / file.name), folder / file.name) for file in files]
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return Split(images=images, labels=labels, scale=255.0)

    return Dataset(name="cifar10", train=split(layout.train), test=split((layout.test,)), num_classes=10)


def parse_binary(content: bytes, path: Path) -> tuple[Tensor, Tensor]:
    """Images and labels of one batch of the binary version (see :class:`Layout`).

    Raises:
        DataError: if the length is not a multiple of a row's.
    """
    if not content or len(content) % (PIXELS + 1):
        raise DataError(f"{path} has {len(content):,} bytes, not a multiple of the {PIXELS + 1} of an image.")
    rows = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).reshape(-1, PIXELS + 1).copy())
    return rows[:, 1:].reshape(-1, 3, 32, 32).contiguous(), rows[:, 0].long()


def parse_pickle(content: bytes, path: Path) -> tuple[Tensor, Tensor]:
    """Images and labels of one batch of the Python version (see :class:`Layout`).

    Raises:
        DataError: if the pickle names anything but an array of bytes, or holds something else than a batch.
    """
    try:
        batch = _BatchReader(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], batch[b"labels"]
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS):
            raise ValueError(f"pixels of shape {pixels.shape}, dtype {pixels.dtype} for {len(labels)} labels")
        return torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()), torch.tensor(labels, dtype=torch.int64)
    except Exception as error:  # a pickle can fail in any way
        raise DataError(f"{path} holds no batch of CIFAR-10: {error}.") from error


class _BatchReader(pickle.Unpickler):
    """An unpickler for exactly what the published batches hold: dicts, lists, numbers, bytes and one array of bytes."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        known = {
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _byte_dtype,
        }
        if (module_name, global_name) not in known:
            raise pickle.UnpicklingError(f"the pickle names {module_name}.{global_name}")
        return known[module_name, global_name]


def _empty_array(_kind: object, _shape: object, _code: object) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.empty(0, dtype=np.uint8)


def _byte_dtype(name: bytes, *_flags: int) -> np.dtype[np.uint8]:
    if name != b"u1":
        raise pickle.UnpicklingError(f"the array has dtype {name!r}")
    return np.dtype(np.uint8)  # numpy itself warns about the flags, written as numbers when the files were made


def _files(suffix: str, size_and_digest: tuple[tuple[int, str], ...]) -> tuple[PublishedFile, ...]:
    names = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    return tuple(PublishedFile(f"{name}{suffix}", *row) for name, row in zip(names, size_and_digest, strict=True))


_BIN = _files(
    ".bin",
    (
        (30_730_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        (30_730_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        (30_730_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        (30_730_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        (30_730_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        (30_730_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    ),
)
_PY = _files(
    "",
    (
        (31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
        (31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
        (31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
        (31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
        (31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
        (31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
    ),
)
BINARY = Layout(folder="cifar-10-batches-bin", train=_BIN[:5], test=_BIN[5], parse=parse_binary)
PICKLED = Layout(folder="cifar-10-batches-py", train=_PY[:5], test=_PY[5], parse=parse_pickle)
