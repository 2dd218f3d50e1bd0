"""Images and labels as people have them, brought into a :class:`Split`: tensors, arrays, datasets, loaders.

Pixels have to end up in [0, 1]: bytes are divided by 255, floats must be there already; whole numbers up to 255 among
them are taken as bytes, with a warning, since the unit of eps hangs on it. Whoever normalised them is told to leave
that to a layer of the network, since eps is in pixel units.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from gls_es.data.dataset import Dataset, Split
from gls_es.errors import DataError

HELD_OUT = 10
"""Without held-out images, one in so many of the given ones is kept out of training, at most :data:`MOST_HELD_OUT`."""
MOST_HELD_OUT = 1000

_FORMS = "a gls_es.data.Split, (images, labels), a dataset of (image, label) pairs or a DataLoader of such batches"


def as_split(data: Any, *, takes: Callable[[Tensor], bool] | None = None) -> Split:
    """Labelled images in memory.

    A loader over a dataset with the usual collation is read in the dataset's own order, whether it shuffles or not; any
    other loader is read once as it comes.

    Args:
        data: a Split; (images, labels) as tensors, NumPy arrays or lists; a dataset with a length whose items are
            (image, label), an image being a tensor, an array or a picture that NumPy reads; or a DataLoader.
        takes: whether a network takes images of a shape, given a batch of one; None: images stay as they are. Else
            (N, C, H, W), (N, H, W, C) and (N, H, W) are tried in this order.

    Raises:
        DataError: the data are none of these, or do not end up in [0, 1].
    """
    if isinstance(data, Split):
        return data
    images, labels = _pair(data)
    values, scale = _pixels(_tensor(images, "images"))
    return Split(_arranged(values, scale, takes), _classes(_tensor(labels, "labels")), scale)


def as_dataset(data: Any, held_out: Any = None, *, takes: Callable[[Tensor], bool] | None = None) -> Dataset:
    """A training and a test split.

    Args:
        data: a Dataset, or what :func:`as_split` takes.
        held_out: the test split, likewise; None: the last tenth of ``data``, which then is not trained on.
        takes: see :func:`as_split`.

    Raises:
        DataError: as :func:`as_split`; also where one image is all there is.
    """
    if isinstance(data, Dataset):
        if held_out is not None:
            raise DataError("a gls_es.Dataset brings its own test split; leave held_out away.")
        return data
    train = as_split(data, takes=takes)
    if held_out is not None:
        return _joined(train, as_split(held_out, takes=takes))
    left = len(train) - min(MOST_HELD_OUT, max(1, len(train) // HELD_OUT))
    if left < 1:
        raise DataError("there is one image only; give more, or held-out ones as well.")
    return _joined(train.subset(slice(0, left)), train.subset(slice(left, None)))


def _joined(train: Split, test: Split) -> Dataset:
    largest = max(int(split.labels.max()) for split in (train, test))
    return Dataset("own data", train, test, max(2, largest + 1))


def labelled(images: Any, labels: Any, *, takes: Callable[[Tensor], bool] | None = None) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], (n, *input_shape) float32, and their labels, (n,) int64.

    Args:
        images: arrays or a tensor; or with ``labels`` None whatever :func:`as_split` takes.
        labels: their labels, or None.
        takes: see :func:`as_split`.

    Raises:
        DataError: as :func:`as_split`.
    """
    return as_split(images if labels is None else (images, labels), takes=takes).batch()


def _pair(data: Any) -> tuple[Any, Any]:
    """All images, and all labels."""
    if isinstance(data, (tuple, list)) and len(data) == 2 and not _is_item(data[0]):
        return data[0], data[1]
    if isinstance(data, DataLoader):
        usual = type(data.sampler) in (SequentialSampler, RandomSampler) and data.collate_fn is default_collate
        return _items(data.dataset) if usual and hasattr(data.dataset, "__len__") else _batches(data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (Tensor, np.ndarray, str)):
        return _items(data)
    raise DataError(f"data must be {_FORMS}, not {type(data).__name__}.")


def holds_labels(data: Any) -> bool:
    """Whether images come with their labels, as in everything that :func:`as_split` takes; False for images alone.

    Args:
        data: anything; two tensors or arrays are a pair if the second has one axis at most, as images have not.
    """
    if isinstance(data, (Tensor, np.ndarray, str)):
        return False
    if not isinstance(data, (tuple, list)):
        return hasattr(data, "__getitem__") or isinstance(data, (Split, DataLoader))
    if len(data) == 0 or _is_item(data[0]):
        return len(data) > 0
    return len(data) == 2 and _axes(data[1]) <= 1


def _axes(value: Any) -> int:
    """How many axes a tensor, an array or lists of lists have."""
    if isinstance(value, (tuple, list)):
        return 1 + (_axes(value[0]) if value else 0)
    return int(getattr(value, "ndim", 0))


def _is_item(value: Any) -> bool:
    """Whether a value is an (image, label) pair, the label one number; images in a list are none."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    return isinstance(value[1], (int, float)) or getattr(value[1], "ndim", None) == 0


def _items(data: Any) -> tuple[Tensor, Tensor]:
    found = [_two(data[index], f"item {index}") for index in range(len(data))]
    if not found:
        raise DataError("the dataset is empty; give at least one image.")
    images = [_tensor(image, f"image {index}") for index, (image, _) in enumerate(found)]
    labels = [_tensor(label, f"label {index}").reshape(()) for index, (_, label) in enumerate(found)]
    return _stacked(images, torch.stack), torch.stack(labels)


def _batches(data: Iterable[Any]) -> tuple[Tensor, Tensor]:
    found = [_two(batch, f"batch {index}") for index, batch in enumerate(data)]
    if not found:
        raise DataError("the loader gives no batch; give at least one image.")
    images = [_tensor(images, f"images of batch {index}") for index, (images, _) in enumerate(found)]
    return _stacked(images, torch.cat), torch.cat([_tensor(labels, "labels").flatten() for _, labels in found])


def _two(item: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{what} of the data is not an (image, label) pair; give {_FORMS}.")
    return item[0], item[1]


def _stacked(images: list[Tensor], join: Callable[[list[Tensor]], Tensor]) -> Tensor:
    try:
        return join(images)
    except RuntimeError as error:
        shapes = sorted({tuple(image.shape) for image in images})
        raise DataError(f"images have different shapes, {shapes[0]} and {shapes[-1]} say; resize them.") from error


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, (tuple, list)) and value and all(isinstance(one, Tensor) for one in value):
        return _stacked([one.detach().cpu() for one in value], torch.stack)
    try:
        array = np.array(value)
        if array.dtype.kind in "US":
            raise DataError(f"{what} are text; number the classes: np.unique(labels, return_inverse=True)[1], say.")
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: {type(value).__name__} holds no numbers that can be read as an array.") from error


def _classes(labels: Tensor) -> Tensor:
    whole = labels.is_floating_point() and bool((labels == labels.round()).all())
    if (labels.is_floating_point() and not whole) or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"labels must be whole numbers, classes from 0, not {labels.dtype}.")
    return labels.to(torch.int64)


def _pixels(images: Tensor) -> tuple[Tensor, float]:
    """The images as a Split holds them, and what divides them."""
    if images.dtype == torch.uint8:
        return images, 255.0
    if images.is_complex() or images.dtype == torch.bool:
        raise DataError(f"images must be bytes or floating-point numbers in [0, 1], not {images.dtype}.")
    if not images.is_floating_point():
        if images.numel() and not 0 <= int(images.min()) <= int(images.max()) <= 255:
            raise DataError(
                f"images of {images.dtype} must be bytes, 0 to 255, not {int(images.min())} to {int(images.max())}."
            )
        if images.numel() and int(images.max()) == 1:
            raise DataError(
                f"images of {images.dtype} hold 0 and 1 only: give floats if 1 is white, torch.uint8 if 255 is."
            )
        return images.to(torch.uint8), 255.0
    low, high = (float(images.min()), float(images.max())) if images.numel() else (0.0, 0.0)
    if low < 0:
        raise DataError(
            f"images lie in [{low:.4g}, {high:.4g}]; [0, 1] is needed, since eps is in pixels: leave mean and "
            "deviation to gls_es.Normalize as the network's first layer."
        )
    if 1 < high <= 255 and bool((images == images.round()).all()):
        warnings.warn(
            f"images hold whole numbers up to {high:.0f} as {images.dtype}: taken as bytes, divided by 255, and eps is "
            "about the quotients, in [0, 1]; give bytes, or divide them yourself, to be without this note",
            stacklevel=2,
        )
        return images.to(torch.uint8), 255.0
    return images, 1.0


def forms_of(images: Tensor) -> list[Tensor]:
    """What images may be meant as (views): as they are, then (N, C, H, W) of channels last or of none.

    Args:
        images: (N, ...).
    """
    if images.ndim == 4:
        return [images, images.permute(0, 3, 1, 2)]
    return [images, images.unsqueeze(1)] if images.ndim == 3 else [images]


def _arranged(images: Tensor, scale: float, takes: Callable[[Tensor], bool] | None) -> Tensor:
    """The images with the axes that the network takes."""
    if takes is None or images.ndim < 2 or len(images) == 0:
        return images
    forms = forms_of(images)
    for form in forms:
        if takes(form[:1].to(torch.float32) / scale):
            return form.contiguous()
    tried = " nor ".join(str(tuple(form.shape[1:])) for form in forms)
    raise DataError(f"the network takes no image of shape {tried}; give images as it takes them, (N, C, H, W) mostly.")
