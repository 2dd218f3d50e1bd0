"""MNIST and Fashion-MNIST readers on tiny files written by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from gls_es.data import load_fashion_mnist, load_mnist
from gls_es.data.idx import load_idx, parse_idx
from gls_es.errors import DataError


def check(fake, data) -> None:
    for part, images, labels in zip((data.train, data.test), fake.images, fake.labels, strict=True):
        assert part.scale == 255.0
        assert part.images.dtype == torch.uint8
        assert np.array_equal(part.images.numpy(), images[:, None])
        assert np.array_equal(part.labels.numpy(), labels)
    assert (data.name, data.num_classes) == (fake.source.name, 10)


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
def test_reads_every_row_in_order(fake_idx, packed: bool) -> None:
    fake_idx.write(packed=packed)
    check(fake_idx, load_idx(fake_idx.source, fake_idx.root))


def test_any_compression_of_the_same_content_will_do(fake_idx) -> None:
    fake_idx.write()
    name = fake_idx.source.files[0].name
    (fake_idx.folder / name).unlink()
    (fake_idx.folder / f"{name}.gz").write_bytes(gzip.compress(fake_idx.contents[name], compresslevel=1, mtime=99))
    check(fake_idx, load_idx(fake_idx.source, str(fake_idx.root)))


def test_looks_elsewhere_for_what_the_root_lacks(fake_idx, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_idx.write(packed=True, folder=fake_idx.source.elsewhere[0])
    monkeypatch.delenv("GLS_ES_DATA", raising=False)
    monkeypatch.chdir(fake_idx.root)  # no ./data here
    check(fake_idx, load_idx(fake_idx.source, None))


def test_a_missing_file_is_named_with_the_places_and_the_cure(fake_idx) -> None:
    fake_idx.write()
    (fake_idx.folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        load_idx(fake_idx.source, fake_idx.root)
    message = str(caught.value)
    assert "t10k-labels-idx1-ubyte" in message
    assert "train-images" not in message
    for place in (fake_idx.folder, *fake_idx.source.elsewhere):
        assert str(place) in message
    assert "download=True" in message
    assert "GLS_ES_DATA" in message


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
def test_the_published_digests_are_in_force(load, fake_idx) -> None:
    fake_idx.write()  # well-formed files, but not the published ones
    for folder in ("MNIST", "FashionMNIST"):
        fake_idx.write(folder=fake_idx.root / folder / "raw")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is not the published file: .* not 47,040,016"):
        load(fake_idx.root)


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flipped, "damaged: SHA-256"),
        (lambda content: content[:-1], "not the published file"),
        (lambda content: content + b"\0", "more than"),
        (lambda content: b"", "0 bytes"),
        (lambda content: b"<html>no such page</html>", "not the published file"),
    ],
    ids=["bit", "short", "long", "empty", "html"],
)
def test_a_damaged_raw_file(fake_idx, damage, words: str) -> None:
    fake_idx.write()
    path = fake_idx.folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=words) as caught:
        load_idx(fake_idx.source, fake_idx.root)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda packed: b"<html>no such page</html>", "no intact gzip file"),
        (lambda packed: packed[: len(packed) // 2], "cut off"),
        (lambda packed: packed[:20] + b"\xff\xff\xff\xff" + packed[24:], "no intact gzip file|damaged"),
        (lambda packed: packed[:-8] + b"\0\0\0\0" + packed[-4:], "no intact gzip file"),
        (lambda packed: gzip.compress(bytes(10_000_000)), "more than"),
        (lambda packed: b"", "0 bytes"),
    ],
    ids=["html", "truncated", "noise", "crc", "bomb", "empty"],
)
def test_a_damaged_gzip_file(fake_idx, damage, words: str) -> None:
    fake_idx.write(packed=True)
    path = fake_idx.folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=words) as caught:
        load_idx(fake_idx.source, fake_idx.root)
    assert str(path) in str(caught.value)


def test_a_folder_in_the_place_of_a_file_is_missing(fake_idx) -> None:
    fake_idx.write()
    path = fake_idx.folder / "train-images-idx3-ubyte"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="lacks train-images-idx3-ubyte"):
        load_idx(fake_idx.source, fake_idx.root)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\0",
        b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",  # floats
        b"\0\0\x08\x03\0\0\0\x01",  # header cut off
        b"\0\0\x08\x01\0\0\0\x03ab",
        b"\0\0\x08\x01\0\0\0\x01ab",
    ],
)
def test_headers_that_do_not_fit(content: bytes) -> None:
    with pytest.raises(DataError, match="some/file"):
        parse_idx(content, Path("some/file"))


def test_an_empty_idx_file_has_no_rows() -> None:
    assert parse_idx(b"\0\0\x08\x01\0\0\0\0", Path("f")).shape == (0,)
