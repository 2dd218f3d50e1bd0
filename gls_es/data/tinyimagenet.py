"""TinyImageNet-200 from its unpacked archive, with no download.

ROOT/tiny-imagenet-200 holds ``train/<class>/images/<class>_<number>.JPEG`` and ``val/images`` with
``val/val_annotations.txt``, whose lines begin with a file name and its class, separated by tabs. Classes are WordNet
numbers and become labels in their alphabetical order, as in ``torchvision.datasets.ImageFolder``. The labels of the
archive's own test images were never published, so the validation images are what networks are tested on, here and in
the literature.

The files have no published digests; what is checked is that every image is there, decodes, and has the right size.
Pixels depend on the JPEG decoder in the last bit: two machines agree if they have the same libjpeg.

Y. Le and X. Yang, "Tiny ImageNet Visual Recognition Challenge", Stanford CS 231N, 2015; for non-commercial research.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gls_es.data.dataset import Dataset, Split
from gls_es.data.roots import VARIABLE, default_root
from gls_es.errors import DataError

FOLDER = "tiny-imagenet-200"


@dataclass(frozen=True)
class Counts:
    """How much has to be there.

    Attributes:
        classes: folders in ``train``.
        per_class: training images in each.
        validation: images in ``val``.
        size: height and width of every image.
    """

    classes: int = 200
    per_class: int = 500
    validation: int = 10_000
    size: int = 64


def load_tinyimagenet(root: str | Path | None = None, *, counts: Counts = Counts()) -> Dataset:
    """TinyImageNet-200: 100,000 + 10,000 photographs, images (N, 3, 64, 64) uint8 (RGB), 200 classes; 1.4 GB.

    Training images are in the order of their numbers, all classes in turn, so that the last n of them (a validation
    split) hold all classes. Test images are in the order of the annotations.

    Args:
        root: folder that holds ``tiny-imagenet-200``; None means $GLS_ES_DATA, then ``./data``.
        counts: what has to be there.

    Raises:
        DataError: the folder or an image is missing or damaged, or Pillow, which decodes the images, is.
    """
    folder = find_tinyimagenet(root)
    classes = sorted(entry.name for entry in os.scandir(folder / "train") if entry.is_dir())
    if len(classes) != counts.classes:
        raise DataError(f"{folder / 'train'} holds {len(classes)} classes, not {counts.classes}; unpack it again.")
    train = [
        (folder / "train" / name / "images" / f"{name}_{number}.JPEG", label)
        for number in range(counts.per_class)
        for label, name in enumerate(classes)
    ]
    test = _annotated(folder / "val", classes)
    if len(test) != counts.validation:
        raise DataError(f"{folder / 'val'} lists {len(test)} images, not {counts.validation}; unpack it again.")
    return Dataset("tinyimagenet", _split(train, counts.size), _split(test, counts.size), counts.classes)


def find_tinyimagenet(root: str | Path | None = None) -> Path:
    """The folder with the images; only what tells that it is there is looked at.

    Raises:
        DataError: it is not there.
    """
    base = default_root(root)
    folder = base / FOLDER
    missing = [name for name in ("train", "val/images", "val/val_annotations.txt") if not (folder / name).exists()]
    if missing:
        raise DataError(
            f"TinyImageNet is incomplete: {folder} lacks {', '.join(missing)}. Unpack tiny-imagenet-200.zip "
            f"(http://cs231n.stanford.edu/tiny-imagenet-200.zip) in {base}, or name another root with --data or "
            f"{VARIABLE}."
        )
    return folder


def _annotated(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """The validation images with their labels, in the order of the annotations."""
    labels = {name: label for label, name in enumerate(classes)}
    path = folder / "val_annotations.txt"
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if name not in labels or Path(file).name != file:
            raise DataError(f"{path}, line {number}, is not an image and its class: {line[:60]!r}; unpack it again.")
        found.append((folder / "images" / file, labels[name]))
    return found


def _split(rows: Sequence[tuple[Path, int]], size: int) -> Split:
    """The decoded images, (N, 3, size, size); decoding runs outside Python's lock, so threads share it."""
    images = torch.empty(len(rows), 3, size, size, dtype=torch.uint8)

    def decode(row: int) -> None:
        images[row] = decoded(rows[row][0], size)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            list(pool.map(decode, range(len(rows))))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a hundred thousand other images need not be decoded now
            raise
    return Split(images, torch.tensor([label for _, label in rows]), 255.0)


def decoded(path: Path, size: int) -> Tensor:
    """One JPEG as (3, size, size) uint8; a grey one gets three equal channels.

    Raises:
        DataError: the file is missing, no image or of another size, or Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            "TinyImageNet's images are JPEG files, and Pillow, which decodes them, is not installed; "
            "install it with `pip install gls-es[tinyimagenet]`."
        ) from error
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.size != (size, size):
                raise DataError(f"{path} has {image.size[0]}x{image.size[1]} pixels, not {size}x{size}.")
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; unpack tiny-imagenet-200.zip again.") from error
    except DataError:
        raise
    except Exception as error:  # a damaged image can fail in any way
        raise DataError(f"{path} cannot be decoded ({error}); unpack tiny-imagenet-200.zip again.") from error
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)
