"""Labelled images as tensors: a split, and the splits that make a dataset.

Images are stored as they come (usually uint8) together with the number that divides them, so that the pixel in [0, 1]
is computed in the dtype a caller asks for: ``255 / 255`` is exactly 1, and float64 pixels are not float32 ones widened.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gls_es.basics.checks import FLOATS, as_real, existing_device, is_plain
from gls_es.basics.modes import usable
from gls_es.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels, in a fixed order.

    Attributes:
        images: (N, C, H, W), uint8 or floating; any (N, *input_shape) is taken, so points of a toy problem fit too.
        labels: (N,) int64 on the images' device, none negative.
        scale: what divides ``images`` to give pixels in [0, 1]; finite and positive.

    Raises:
        DataError: on construction, if a shape, dtype, length or value (NaN, infinity, outside [0, 1]) is not as above.
    """

    images: Tensor
    labels: Tensor
    scale: float

    def __post_init__(self) -> None:
        _check_shapes(self.images, self.labels)
        for name in ("images", "labels"):
            object.__setattr__(self, name, usable(getattr(self, name).detach()))
        scale = as_real(self.scale)
        if scale is None or not 0 < scale < math.inf:
            raise DataError(
                f"the scale of the images is {self.scale!r}; it has to be finite and positive, 255 for bytes."
            )
        object.__setattr__(self, "scale", scale)
        _check_values(self.images, self.scale)
        if int(self.labels.min()) < 0:
            row = int(self.labels.argmin())
            raise DataError(f"label {int(self.labels[row])} of image {row} is negative; classes count from 0.")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, without the batch axis."""
        return tuple(self.images.shape[1:])

    def batch(
        self,
        indices: Tensor | slice | Sequence[int] | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Take rows as pixels in [0, 1].

        Args:
            indices: rows to take: (B,) integers (repeats allowed), an (N,) mask, a slice, or None for all of them.
            device: where the result is wanted; bytes, not floats, travel there.
            dtype: floating dtype of the pixels.

        Returns:
            (x, y): x (B, *input_shape) of ``dtype`` in [0, 1], y (B,) int64.

        Raises:
            DataError: if ``dtype`` is not floating or an index is out of range.
        """
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise DataError(f"pixels in [0, 1] cannot be of dtype {dtype}; ask for a floating one.")
        device = existing_device(device)
        images, labels = self._rows(indices)
        x = images.to(device).to(dtype)
        # A divisor on the device: dividing by a Python number multiplies by its rounded reciprocal on CUDA,
        # and pixels would differ from one device to another.
        return x / torch.full((), self.scale, dtype=dtype, device=x.device), labels.to(device)

    def subset(self, indices: Tensor | slice | Sequence[int]) -> Split:
        """The split of these rows only, in the order given (see :meth:`batch` for ``indices``)."""
        images, labels = self._rows(indices)
        return dataclasses.replace(self, images=images, labels=labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split with its tensors on ``device``, to take batches there without a copy for each."""
        device = existing_device(device)
        return dataclasses.replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def _rows(self, indices: Tensor | slice | Sequence[int] | None) -> tuple[Tensor, Tensor]:
        if indices is None:
            return self.images, self.labels
        if isinstance(indices, list | tuple | range) and all(type(index) is int for index in indices):
            indices = torch.tensor(indices, dtype=torch.int64)
        if isinstance(indices, Tensor):
            indices = self._checked(indices)
        elif not isinstance(indices, slice):
            raise DataError(
                f"indices must be a tensor, a list of whole numbers or a slice, not {type(indices).__name__}."
            )
        return self.images[indices], self.labels[indices]

    def _checked(self, indices: Tensor) -> Tensor:
        """Indices on the images' device; torch would read bytes as a mask and abort CUDA on one out of range."""
        mask = indices.dtype == torch.bool
        if indices.ndim != 1 or indices.is_floating_point() or indices.is_complex():
            raise DataError(
                f"indices need shape (B,) and an integer dtype, not {tuple(indices.shape)} {indices.dtype}."
            )
        if mask and len(indices) != len(self):
            raise DataError(f"a mask of {len(indices)} does not fit {len(self)} images.")
        if mask:
            return indices.to(self.images.device)
        indices = indices.long()
        if indices.numel() and not -len(self) <= int(indices.min()) <= int(indices.max()) < len(self):
            raise DataError(f"an index lies outside the {len(self)} images of this split.")
        return indices.to(self.images.device)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split over the same classes.

    Attributes:
        name: short name, ``"mnist"`` say.
        train: the split to learn from.
        test: the split to report on, in the published order ("the first n" are rows 0..n-1).
        num_classes: K; labels are 0..K-1.
        validation: images to choose hyper-parameters by, which are in neither of the others; or None.

    Raises:
        DataError: on construction, if a label is K or more or the splits hold images of different shapes.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    validation: Split | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise DataError(f"the name of a dataset must be a text, not {self.name!r}.")
        for part, split in self._parts():
            if not isinstance(split, Split):
                raise DataError(
                    f"the {part} images of {self.name!r} must be a Split, not {type(split).__name__}; "
                    "gls_es.data.as_split makes one of tensors, arrays, a torch dataset or a DataLoader."
                )
        if type(self.num_classes) is not int:
            raise DataError(f"num_classes of {self.name!r} must be a whole number, not {self.num_classes!r}.")
        if self.num_classes < 2:
            raise DataError(f"dataset {self.name!r} has {self.num_classes} classes; it takes two to tell apart.")
        for part, split in self._parts():
            if self.train.input_shape != split.input_shape:
                shapes = f"{self.train.input_shape} and {split.input_shape}"
                raise DataError(
                    f"training and {part} images of {self.name!r} have shapes {shapes}; they have to agree."
                )
            largest = int(split.labels.max())
            if largest >= self.num_classes:
                raise DataError(
                    f"a {part} label of {self.name!r} is {largest}; with {self.num_classes} classes "
                    f"the largest is {self.num_classes - 1}."
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return self.train.input_shape

    @property
    def held_out(self) -> Split:
        """What is looked at while training goes on: the validation images if there are some, else the test images."""
        return self.test if self.validation is None else self.validation

    def split(self, name: str) -> Split:
        """The split called ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            ConfigError: there is none of that name.
        """
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        found = splits.get(name) if isinstance(name, str) else None
        if found is None:
            hint = "train with --set validation=N to have one" if name == "validation" else "choose train or test"
            raise ConfigError(f"{self.name!r} has no {name} split; {hint}.")
        return found

    def with_validation(self, count: int) -> Dataset:
        """The same with the last ``count`` training images taken out as the validation split.

        Raises:
            DataError: no training image would be left.
        """
        whole = type(count) is int and 1 <= count < len(self.train)
        if not whole:
            raise DataError(f"{self.name!r} has {len(self.train):,} training images; {count} cannot be for validation.")
        left = len(self.train) - count
        train, validation = self.train.subset(slice(0, left)), self.train.subset(slice(left, None))
        return dataclasses.replace(self, train=train, validation=validation)

    def digest(self) -> str:
        """SHA-256 (hex) of the contents: the splits' values, shapes, dtypes and scales; not the name."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256(f"gls-es dataset 1, {self.num_classes} classes\n".encode())
        for _, split in self._parts():
            sha.update(f"scale {float(split.scale).hex()}\n".encode())
            for tensor in (split.images, split.labels):
                sha.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
                sha.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
        return sha.hexdigest()

    def _parts(self) -> list[tuple[str, Split]]:
        last = [] if self.validation is None else [("validation", self.validation)]
        return [("training", self.train), ("test", self.test), *last]


def _check_kind(name: str, values: object) -> None:
    """Refuse what is no tensor of numbers that are there."""
    if not isinstance(values, Tensor):
        hint = f"torch.from_numpy({name})" if type(values).__module__ == "numpy" else f"torch.tensor({name})"
        raise DataError(f"{name} must be a torch.Tensor, not {type(values).__name__}; {hint} makes one.")
    if not is_plain(values):
        raise DataError(f"{name} must be a plain dense tensor that holds numbers (not sparse, nested or on meta).")


def _check_shapes(images: Tensor, labels: Tensor) -> None:
    _check_kind("images", images)
    _check_kind("labels", labels)
    if images.ndim < 2 or 0 in images.shape[1:]:
        raise DataError(f"images have shape {tuple(images.shape)}; (N, C, H, W) is needed, with no empty axis.")
    if images.dtype != torch.uint8 and images.dtype not in FLOATS:
        raise DataError(f"images have dtype {images.dtype}; uint8 or a floating one is needed.")
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise DataError(f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; (N,) int64 is needed.")
    if len(images) != len(labels):
        raise DataError(f"there are {len(images)} images but {len(labels)} labels; every image needs one.")
    if len(images) == 0:
        raise DataError("a split holds no images; at least one is needed.")
    if images.device != labels.device:
        raise DataError(f"images are on {images.device}, labels on {labels.device}; put them on one device.")


def _check_values(images: Tensor, scale: float) -> None:
    """Refuse NaN, infinities, and what ``scale`` does not bring into [0, 1]."""
    if images.dtype == torch.uint8:
        if int(images.max()) > scale:
            raise DataError(f"a pixel is {int(images.max())} and the scale {scale}; pixels have to end up in [0, 1].")
        return
    if not bool(torch.isfinite(images).all()):
        row = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"image {row} holds NaN or infinity; a certificate cannot be about it, so mend or drop it.")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > scale:
        divided = "" if scale == 1 else f" after division by {scale:.6g}"
        cure = "leave mean and deviation to a Normalize layer of the network"
        if low >= 0 and scale == 1 and 2 < high <= 255:
            cure = "if they are bytes, divide them by 255, or give torch.uint8"
        raise DataError(f"images lie in [{low / scale:.6g}, {high / scale:.6g}]{divided}; [0, 1] is needed: {cure}.")
