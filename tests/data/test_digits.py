"""The digits in the package: the bytes, the numbers, and the fixed split."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import torch

from gls_es.data import digits, load_digits
from gls_es.errors import DataError

CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as scikit-learn documents


def test_the_packaged_bytes_have_the_digest_in_the_code() -> None:
    packed = resources.files("gls_es.data").joinpath(digits.FILE).read_bytes()
    assert hashlib.sha256(packed).hexdigest() == digits.SHA256
    assert packed[4:8] == b"\0\0\0\0"  # no time in the gzip header: building it again gives the same bytes
    assert "CC BY 4.0" in resources.files("gls_es.data").joinpath("digits_LICENSE.txt").read_text()


def test_sizes_shapes_and_class_counts() -> None:
    data = load_digits()
    assert (data.name, data.num_classes, data.input_shape) == ("digits", 10, (1, 8, 8))
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.train.images.dtype == torch.uint8
    assert data.train.scale == data.test.scale == 16.0
    assert int(data.train.images.max()) == 16
    counts = data.train.labels.bincount() + data.test.labels.bincount()
    assert counts.tolist() == CLASS_COUNTS
    for held, total in zip(data.test.labels.bincount().tolist(), CLASS_COUNTS, strict=True):
        assert abs(held - total / 5) < 1


def test_no_image_is_in_both_parts() -> None:
    data = load_digits()
    train, test = ({bytes(image.flatten().tolist()) for image in part.images} for part in (data.train, data.test))
    assert len(train) == 1437
    assert len(test) == 360
    assert not train & test


def test_the_same_rows_as_scikit_learn() -> None:
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    data = load_digits()
    held = digits.held_out_rows(theirs.target.tolist())
    images = torch.from_numpy(theirs.images).unsqueeze(1)
    for part, rows in ((data.train, ~held), (data.test, held)):
        assert torch.equal(part.images.double(), images[rows])
        assert torch.equal(part.labels, torch.from_numpy(theirs.target)[rows])


def test_the_split_never_moves() -> None:
    """Results are compared across releases, so a changed split is a changed dataset."""
    assert load_digits().digest() == "db8fb0fb8da2637f62be5c08cb920d36a33c0a2f0b2006703211accc0b12ede0"


def test_held_out_rows_by_hand() -> None:
    labels = [1, 0, 1, 1, 0, 1]
    order = sorted((labels[row], hashlib.sha256(str(row).encode()).hexdigest(), row) for row in range(6))
    expected = {order[0][2], order[5][2]}
    assert set(digits.held_out_rows(labels).nonzero().flatten().tolist()) == expected


@pytest.mark.parametrize("content", [None, b"", b"not the digits"])
def test_a_damaged_package_is_noticed(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if content is not None:
        (tmp_path / digits.FILE).write_bytes(content)
    monkeypatch.setattr(digits.resources, "files", lambda _package: tmp_path)
    with pytest.raises(DataError, match="install gls-es again"):
        load_digits()


def test_loading_needs_neither_torchvision_nor_scikit_learn() -> None:
    code = "import sys, gls_es.data as d; d.load_digits(); print({'torchvision', 'sklearn'} & set(sys.modules))"
    root = Path(digits.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "set()"
