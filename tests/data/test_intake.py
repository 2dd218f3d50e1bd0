"""Images as people have them end up as the same pixels, whatever they came in."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gls_es.data import Dataset, Split
from gls_es.data.intake import as_dataset, as_split, labelled
from gls_es.errors import DataError

BYTES = torch.arange(2 * 7 * 3 * 4 * 5, dtype=torch.int64).remainder(256).to(torch.uint8).reshape(14, 3, 4, 5)
LABELS = torch.arange(14) % 3
PIXELS = BYTES.double() / 255


class Pairs(TorchDataset[Any]):
    """What torchvision's classes are like: a length, and (image, int) pairs."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not 0 <= index < len(self.images):
            raise IndexError(index)
        return self.images[index], int(LABELS[index])


class Picture:
    """What NumPy reads as height x width x 3 bytes, as it reads a picture."""

    def __init__(self, image: Tensor) -> None:
        self._array = image.permute(1, 2, 0).numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._array, dtype=dtype)


def takes(batch: Tensor) -> bool:
    """A network that wants three channels of 4 x 5."""
    return tuple(batch.shape[1:]) == (3, 4, 5)


SHUFFLED = DataLoader(Pairs(BYTES), batch_size=4, shuffle=True)
ODD = DataLoader(Pairs(PIXELS.float()), batch_size=4, collate_fn=lambda items: tuple(map(torch.tensor, zip(*[(i.tolist(), y) for i, y in items], strict=True))))  # fmt: skip # noqa: E501
FORMS = {
    "tensors": (BYTES, LABELS),
    "floats": (PIXELS, LABELS),
    "whole floats": (BYTES.float(), LABELS.float()),
    "whole numbers": [BYTES.long(), LABELS.to(torch.int32)],
    "arrays": (BYTES.numpy(), LABELS.numpy()),
    "a list of labels": (PIXELS.numpy(), LABELS.tolist()),
    "lists": (PIXELS.float().tolist(), LABELS.tolist()),
    "a list of tensors": (list(PIXELS), list(LABELS)),
    "a list of arrays": (list(PIXELS.numpy()), LABELS.numpy()),
    "channels last": (BYTES.permute(0, 2, 3, 1).numpy(), LABELS.numpy()),
    "pairs": Pairs(BYTES),
    "pairs of floats": Pairs(PIXELS.float()),
    "pictures": Pairs([Picture(image) for image in BYTES]),
    "a shuffling loader": SHUFFLED,
    "a loader of its own kind": ODD,
    "a split": Split(BYTES, LABELS, 255.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pixels_in_the_same_order(form: str) -> None:
    says = pytest.warns(UserWarning, match="whole numbers up to 255 as torch.float32: taken as bytes, divided by 255")
    with says if form == "whole floats" else nullcontext():
        split = as_split(FORMS[form], takes=takes)
    images, labels = split.batch(dtype=torch.float64)
    torch.testing.assert_close(images, PIXELS, rtol=0, atol=1e-7)
    assert torch.equal(labels, LABELS)
    assert split.images.is_contiguous()


def test_images_without_channels_get_one_where_the_network_has_it() -> None:
    plain = (torch.rand(6, 8, 8), torch.zeros(6, dtype=torch.int64))
    images, _ = labelled(*plain, takes=lambda batch: batch.shape[1:] == (1, 8, 8))
    assert images.shape == (6, 1, 8, 8)
    images, _ = labelled(plain, None, takes=lambda batch: batch.flatten(1).shape[1] == 64)
    assert images.shape == (6, 8, 8)
    assert as_split(plain).images.shape == (6, 8, 8)


def test_the_last_tenth_is_held_out() -> None:
    data = as_dataset(Pairs(BYTES))
    assert (len(data.train), len(data.test), data.num_classes) == (13, 1, 3)
    many = torch.zeros(20_000, 2), torch.ones(20_000, dtype=torch.int64)
    assert len(as_dataset(many).test) == 1000
    given = as_dataset((BYTES, LABELS), (BYTES[:2], torch.tensor([4, 0])))
    assert (len(given.train), len(given.test), given.num_classes) == (14, 2, 5)
    assert as_dataset(given) is given
    with pytest.raises(DataError, match="brings its own test split"):
        as_dataset(given, (BYTES, LABELS))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((PIXELS * 2 - 1, LABELS), r"images lie in \[-1, .*gls_es.Normalize as the network's first layer"),
        ((PIXELS * 2, LABELS), r"\[0, 1\] is needed"),
        ((BYTES.long() + 9, LABELS), "must be bytes, 0 to 255, not 9 to 264"),
        ((BYTES, LABELS + 0.5), "labels must be whole numbers"),
        ((BYTES, LABELS[:3]), "14 images but 3 labels"),
        ((BYTES > 3, LABELS), "must be bytes or floating-point numbers"),
        ((PIXELS * torch.nan, LABELS), "NaN"),
        (BYTES, "data must be .* a DataLoader of such batches, not Tensor"),
        ("mnist", "not str"),
        (Pairs([torch.zeros(2), torch.zeros(3)]), "images have different shapes"),
        (Pairs([]), "the dataset is empty"),
        ([(1, 2, 3)] * 5, r"item 0 of the data is not an \(image, label\) pair"),
        ((np.array(["a"]), [0]), "images are text"),
        ((PIXELS, ["cat", "dog"] * 7), r"labels are text; .* return_inverse=True"),
        ((PIXELS, [[1], [2, 3]]), "labels: list holds no numbers"),
        ((BYTES.clamp(0, 1).long(), LABELS), "hold 0 and 1 only: give floats if 1 is white"),
        ((PIXELS * 254.5, LABELS), r"images lie in .* \[0, 1\] is needed: if they are bytes, divide them by 255"),
    ],
)
def test_what_cannot_be_taken_is_named(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_split(data)


def test_a_shape_that_no_order_of_axes_makes_fit() -> None:
    net = nn.Conv2d(2, 3, 3)

    def fits(batch: Tensor) -> bool:
        try:
            net(batch)
        except RuntimeError:
            return False
        return True

    with pytest.raises(DataError, match=r"no image of shape \(3, 4, 5\) nor \(5, 3, 4\)"):
        as_split((BYTES, LABELS), takes=fits)
    assert isinstance(as_dataset((BYTES, LABELS)), Dataset)
