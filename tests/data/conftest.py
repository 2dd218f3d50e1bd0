"""Tiny datasets in the published formats, written by hand, independently of the readers under test."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gls_es.data.cifar10 import BINARY, PICKLED, Layout
from gls_es.data.files import PublishedFile
from gls_es.data.idx import FASHION_MNIST, MNIST, IdxSource

TRAIN, TEST = 7, 3


def published(name: str, content: bytes) -> PublishedFile:
    return PublishedFile(name, len(content), hashlib.sha256(content).hexdigest())


def idx_bytes(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", n) for n in values.shape) + values.tobytes()


def python2_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes with which Python 2 and numpy 1 wrote a batch: short strings, old module names, numbers for flags."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    rows, columns = pixels.shape
    out = b"\x80\x02}(" + text(b"batch_label") + text(b"training batch 1 of 5")
    out += text(b"labels") + b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    out += text(b"data") + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    out += b"(K\x01M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
    out += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff"
    out += b"K\x00tb\x89T" + struct.pack("<I", pixels.size) + pixels.tobytes() + b"tb"
    return out + text(b"filenames") + b"](" + text(b"a.png") + b"eu."


@dataclass(frozen=True)
class FakeIdx:
    root: Path
    source: IdxSource
    contents: dict[str, bytes]
    images: tuple[np.ndarray, np.ndarray]
    labels: tuple[np.ndarray, np.ndarray]

    @property
    def folder(self) -> Path:
        return self.root / self.source.folder

    def write(self, *, packed: bool = False, folder: Path | None = None) -> None:
        folder = folder or self.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)


@pytest.fixture(params=[MNIST, FASHION_MNIST], ids=lambda source: source.name)
def fake_idx(request: pytest.FixtureRequest, tmp_path: Path) -> FakeIdx:
    """An IDX dataset of 7 + 3 images whose files are not written yet."""
    rng = np.random.default_rng(1)
    images = tuple(rng.integers(0, 256, (n, 4, 5), dtype=np.uint8) for n in (TRAIN, TEST))
    labels = tuple(rng.integers(0, 10, n, dtype=np.uint8) for n in (TRAIN, TEST))
    names = [file.name for file in request.param.files]
    values = (images[0], labels[0], images[1], labels[1])
    contents = {name: idx_bytes(value) for name, value in zip(names, values, strict=True)}
    files = tuple(published(name, content) for name, content in contents.items())
    source = dataclasses.replace(request.param, files=files, elsewhere=(tmp_path / "elsewhere",))
    root = tmp_path / "root"
    root.mkdir()
    return FakeIdx(root, source, contents, images, labels)


@dataclass(frozen=True)
class FakeCifar:
    root: Path
    binary: Layout
    pickled: Layout
    contents: dict[str, bytes]
    pixels: np.ndarray
    labels: np.ndarray

    def write(self, *layouts: Layout) -> None:
        for layout in layouts:
            folder = self.root / layout.folder
            folder.mkdir(parents=True, exist_ok=True)
            for file in (*layout.train, layout.test):
                (folder / file.name).write_bytes(self.contents[file.name])


@pytest.fixture
def fake_cifar(tmp_path: Path) -> FakeCifar:
    """A CIFAR-10 with two images a batch, in both versions, not written yet; rows 10 and 11 are the test batch."""
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (12, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, 12, dtype=np.uint8)
    contents: dict[str, bytes] = {}
    for number in range(6):
        rows = slice(2 * number, 2 * number + 2)
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        contents[f"{name}.bin"] = np.concatenate([labels[rows, None], pixels[rows]], 1).tobytes()
        contents[name] = python2_pickle(pixels[rows], labels[rows].tolist())

    def layout(like: Layout) -> Layout:
        train = tuple(published(file.name, contents[file.name]) for file in like.train)
        return dataclasses.replace(like, train=train, test=published(like.test.name, contents[like.test.name]))

    root = tmp_path / "root"
    root.mkdir()
    return FakeCifar(root, layout(BINARY), layout(PICKLED), contents, pixels, labels)
