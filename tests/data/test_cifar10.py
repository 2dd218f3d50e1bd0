"""The CIFAR-10 reader on tiny batches written by hand, and what a hostile pickle can do: nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from gls_es.data import load_cifar10
from gls_es.data.cifar10 import load_layouts, parse_binary, parse_pickle
from gls_es.data.files import PublishedFile
from gls_es.errors import DataError


def check(fake, data) -> None:
    images = fake.pixels.reshape(-1, 3, 32, 32)
    for part, rows in ((data.train, slice(0, 10)), (data.test, slice(10, 12))):
        assert np.array_equal(part.images.numpy(), images[rows])
        assert np.array_equal(part.labels.numpy(), fake.labels[rows])
        assert part.scale == 255.0
    assert (data.name, data.num_classes, data.input_shape) == ("cifar10", 10, (3, 32, 32))


@pytest.mark.parametrize("version", ["binary", "pickled"])
def test_reads_every_row_in_order(fake_cifar, version: str) -> None:
    fake_cifar.write(getattr(fake_cifar, version))
    check(fake_cifar, load_layouts((fake_cifar.binary, fake_cifar.pickled), fake_cifar.root))


def test_an_incomplete_version_is_passed_over(fake_cifar) -> None:
    fake_cifar.write(fake_cifar.binary, fake_cifar.pickled)
    (fake_cifar.root / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    check(fake_cifar, load_layouts((fake_cifar.binary, fake_cifar.pickled), fake_cifar.root))


def test_never_half_a_dataset(fake_cifar) -> None:
    fake_cifar.write(fake_cifar.binary, fake_cifar.pickled)
    (fake_cifar.root / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    (fake_cifar.root / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(DataError) as caught:
        load_layouts((fake_cifar.binary, fake_cifar.pickled), fake_cifar.root)
    message = str(caught.value)
    assert f"{fake_cifar.root / 'cifar-10-batches-bin'} lacks data_batch_4.bin;" in message
    assert f"{fake_cifar.root / 'cifar-10-batches-py'} lacks test_batch." in message
    assert "unpack cifar-10-binary.tar.gz" in message


def test_the_published_digests_are_in_force(fake_cifar) -> None:
    fake_cifar.write(fake_cifar.pickled)
    with pytest.raises(DataError, match=r"data_batch_1 is not the published file: .* not 31,035,704"):
        load_cifar10(fake_cifar.root)


@pytest.mark.parametrize("version", ["binary", "pickled"])
def test_a_flipped_bit(fake_cifar, version: str) -> None:
    layout = getattr(fake_cifar, version)
    fake_cifar.write(layout)
    path = fake_cifar.root / layout.folder / layout.train[2].name
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged: SHA-256") as caught:
        load_layouts((layout,), fake_cifar.root)
    assert str(path) in str(caught.value)


class _Hostile:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_a_hostile_pickle_is_not_opened(fake_cifar, tmp_path: Path) -> None:
    layout, trace = fake_cifar.pickled, tmp_path / "trace"
    hostile = pickle.dumps({b"data": _Hostile(trace)})
    pickle.loads(hostile)
    assert trace.exists()  # it would have worked
    trace.unlink()

    fake_cifar.write(layout)
    (fake_cifar.root / layout.folder / "data_batch_1").write_bytes(hostile)
    with pytest.raises(DataError, match="not the published file"):
        load_layouts((layout,), fake_cifar.root)
    trusted = PublishedFile("data_batch_1", len(hostile), hashlib.sha256(hostile).hexdigest())
    with pytest.raises(DataError, match="the pickle names"):
        load_layouts((dataclasses.replace(layout, train=(trusted,)),), fake_cifar.root)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"U\x02u1", b"U\x02O8", "dtype"),
        (b"U\x06labels", b"U\x06lapels", "labels"),
        (b"K\x05e", b"e", "2, 3072"),
        (b"U\x04data", b"U\x04date", "data"),
        (b"cnumpy\ndtype", b"cposix\nsystem", "posix.system"),
        (b"u.", b"u", "Ran out of input"),
    ],
)
def test_pickles_that_are_no_batch(fake_cifar, old: bytes, new: bytes, words: str) -> None:
    content = fake_cifar.contents["test_batch"]
    label = bytes([75, int(fake_cifar.labels[11]), 101])  # K <label> e: the last label
    content = content.replace(label, b"K\x05e", 1)
    assert len(parse_pickle(content, Path("f"))[1]) == 2
    assert old in content
    with pytest.raises(DataError, match=f"some/file holds no batch .*{words}"):
        parse_pickle(content.replace(old, new, 1), Path("some/file"))


@pytest.mark.parametrize("size", [0, 1, 3072, 3074])
def test_binary_batches_of_a_wrong_length(size: int) -> None:
    with pytest.raises(DataError, match="multiple of the 3073"):
        parse_binary(bytes(size), Path("f"))
