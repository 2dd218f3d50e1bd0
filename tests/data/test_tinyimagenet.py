"""TinyImageNet's layout with a few tiny images in it."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gls_es.data.tinyimagenet import Counts, decoded, load_tinyimagenet
from gls_es.errors import DataError

Image = pytest.importorskip("PIL.Image")

CLASSES = ("n02124075", "n01443537", "n04067472")  # not in the order of their labels
COUNTS = Counts(classes=3, per_class=4, validation=5, size=8)
LABELS = {"n01443537": 0, "n02124075": 1, "n04067472": 2}


def jpeg(color: tuple[int, int, int] | int, size: int = 8) -> bytes:
    mode = "L" if isinstance(color, int) else "RGB"
    buffer = io.BytesIO()
    Image.new(mode, (size, size), color).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def color(label: int, number: int) -> tuple[int, int, int]:
    return (60 * label + 20, 40 * number + 30, 128)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of four training images of one color each, five validation images."""
    base = tmp_path / "tiny-imagenet-200"
    for name in CLASSES:
        images = base / "train" / name / "images"
        images.mkdir(parents=True)
        (base / "train" / name / f"{name}_boxes.txt").write_text("")
        for number in range(4):
            (images / f"{name}_{number}.JPEG").write_bytes(jpeg(color(LABELS[name], number)))
    (base / "val" / "images").mkdir(parents=True)
    lines = []
    for number in range(5):
        name = CLASSES[number % 3]
        (base / "val" / "images" / f"val_{number}.JPEG").write_bytes(jpeg(color(LABELS[name], number)))
        lines.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (base / "val" / "val_annotations.txt").write_text("".join(lines))
    (base / "test" / "images").mkdir(parents=True)
    return tmp_path


def test_images_labels_and_their_order(root: Path) -> None:
    data = load_tinyimagenet(root, counts=COUNTS)
    assert (data.name, data.num_classes, data.input_shape) == ("tinyimagenet", 3, (3, 8, 8))
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.tolist() == [0, 1, 2] * 4  # in turn, so that the last ones hold all classes
    assert data.test.labels.tolist() == [LABELS[CLASSES[number % 3]] for number in range(5)]
    for row in range(12):
        assert_color(data.train.images[row], color(row % 3, row // 3))
    for row in range(5):
        assert_color(data.test.images[row], color(int(data.test.labels[row]), row))
    assert data.with_validation(3).split("validation").labels.tolist() == [0, 1, 2]


def assert_color(image: torch.Tensor, wanted: tuple[int, int, int]) -> None:
    """A uniform image survives JPEG but for rounding in its color space."""
    assert bool(((image.int() - torch.tensor(wanted).view(3, 1, 1)).abs() <= 2).all())


def test_channels_come_first(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:, 4:, 0] = 255  # the right half is red
    Image.fromarray(pixels).save(tmp_path / "a.JPEG", quality=100, subsampling=0)
    image = decoded(tmp_path / "a.JPEG", 8)
    assert image.shape == (3, 8, 8)
    assert image[0, :, 6].min() > 240
    assert image[0, :, 1].max() < 15
    assert image[1:].max() < 15


def test_grey_images_get_three_channels(tmp_path: Path) -> None:
    (tmp_path / "grey.JPEG").write_bytes(jpeg(100))
    assert decoded(tmp_path / "grey.JPEG", 8).tolist() == torch.full((3, 8, 8), 100).tolist()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("val/val_annotations.txt", "TinyImageNet is incomplete: .* lacks val/val_annotations.txt. Unpack tiny-im"),
        ("train/n01443537/images/n01443537_2.JPEG", r"n01443537_2.JPEG is missing; unpack"),
        ("val/images/val_4.JPEG", r"val_4.JPEG is missing"),
    ],
)
def test_missing_files(root: Path, missing: str, words: str) -> None:
    (root / "tiny-imagenet-200" / missing).unlink()
    with pytest.raises(DataError, match=words):
        load_tinyimagenet(root, counts=COUNTS)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks train, val/images, val/val_annotations.txt.*--data or GLS_ES_DATA"):
        load_tinyimagenet(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be decoded"),
        (b"<html>not found</html>", "cannot be decoded"),
        (jpeg((1, 2, 3))[:300], "cannot be decoded"),
        (jpeg((1, 2, 3), size=9), "has 9x9 pixels, not 8x8"),
    ],
)
def test_damaged_images(root: Path, content: bytes, words: str) -> None:
    (root / "tiny-imagenet-200/train/n01443537/images/n01443537_2.JPEG").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load_tinyimagenet(root, counts=COUNTS)
    assert "n01443537_2.JPEG" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("val_0.JPEG\tn99999999\t0\n", "line 1, is not an image and its class"),
        ("../../../secret.JPEG\tn01443537\t0\n", "line 1, is not an image and its class"),
        ("val_0.JPEG\tn01443537\t0\n", "lists 1 images, not 5"),
    ],
)
def test_wrong_annotations(root: Path, line: str, words: str) -> None:
    (root / "tiny-imagenet-200/val/val_annotations.txt").write_text(line)
    with pytest.raises(DataError, match=words):
        load_tinyimagenet(root, counts=COUNTS)


def test_half_an_archive_is_not_a_smaller_data_set(root: Path) -> None:
    with pytest.raises(DataError, match="holds 3 classes, not 200"):
        load_tinyimagenet(root)


def test_without_pillow_it_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "PIL":
            raise ImportError("No module named 'PIL'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(DataError, match=r"pip install gls-es\[tinyimagenet\]"):
        load_tinyimagenet(root, counts=COUNTS)
