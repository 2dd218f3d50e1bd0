"""Split and Dataset: what they refuse, and the pixels, rows and digests they give."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gls_es.data import Dataset, Split
from gls_es.errors import ConfigError, DataError


def bytes_split(n: int = 6, *, shape: tuple[int, ...] = (2, 3, 4)) -> Split:
    images = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(n)).to(torch.uint8)
    return Split(images=images, labels=torch.arange(n) % 3, scale=255.0)


IMAGES = torch.zeros(4, 1, 2, 2)
LABELS = torch.zeros(4, dtype=torch.int64)


def with_value(value: float) -> torch.Tensor:
    images = IMAGES.clone()
    images[2, 0, 1, 1] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "scale", "words"),
    [
        (torch.zeros(4), LABELS, 1.0, "shape"),
        (torch.zeros(4, 1, 0, 2), LABELS, 1.0, "empty axis"),
        (torch.zeros(4, 1, 2, 2, dtype=torch.int32), LABELS, 1.0, "dtype"),
        (IMAGES, LABELS.int(), 1.0, "int64"),
        (IMAGES, LABELS.view(2, 2), 1.0, "labels have shape"),
        (IMAGES, LABELS[:3], 1.0, "4 images but 3 labels"),
        (IMAGES[:0], LABELS[:0], 1.0, "no images"),
        (IMAGES, LABELS - 1, 1.0, "negative"),
        (IMAGES, LABELS, 0.0, "scale"),
        (IMAGES, LABELS, -1.0, "scale"),
        (IMAGES, LABELS, math.nan, "scale"),
        (IMAGES, LABELS, math.inf, "scale"),
        (IMAGES, LABELS, "1", "scale"),
        (IMAGES.numpy(), LABELS, 1.0, r"images must be a torch.Tensor, not ndarray; torch.from_numpy\(images\)"),
        (IMAGES, LABELS.numpy(), 1.0, r"torch.from_numpy\(labels\)"),
        (IMAGES, LABELS.tolist(), 1.0, r"torch.tensor\(labels\)"),
        (IMAGES.to("meta"), LABELS, 1.0, "dense"),
        (IMAGES.to_sparse(), LABELS, 1.0, "dense"),
        (IMAGES.to(torch.complex64), LABELS, 1.0, "dtype"),
        (with_value(math.nan), LABELS, 1.0, "image 2 holds NaN"),
        (with_value(math.inf), LABELS, 1.0, "image 2 holds NaN or infinity"),
        (with_value(-1e-6), LABELS, 1.0, "Normalize"),
        (with_value(1.0 + 1e-6), LABELS, 1.0, r"\[0, 1\] is needed"),
        (torch.full((4, 1, 2, 2), 17, dtype=torch.uint8), LABELS, 16.0, "a pixel is 17"),
    ],
)
def test_a_split_refuses(images: torch.Tensor, labels: torch.Tensor, scale: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Split(images=images, labels=labels, scale=scale)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_ends_of_the_range_are_allowed(value: float) -> None:
    assert Split(images=with_value(value), labels=LABELS, scale=1.0).batch()[0][2, 0, 1, 1] == value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_byte_becomes_the_nearest_float_of_its_fraction(dtype: torch.dtype) -> None:
    split = Split(torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1), torch.zeros(256, dtype=torch.int64), 255.0)
    x, y = split.batch(dtype=dtype)
    nearest = torch.tensor([value / 255 for value in range(256)], dtype=torch.float64).to(dtype)
    assert x.dtype == dtype
    assert y.dtype == torch.int64
    assert torch.equal(x.flatten(), nearest)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pixels_do_not_depend_on_the_device() -> None:
    split = bytes_split(50)
    x, y = split.batch(device="cuda")
    again, _ = split.to("cuda").batch(torch.arange(50), device="cuda")
    assert torch.equal(x.cpu(), split.batch()[0])
    assert torch.equal(x, again)
    assert y.device.type == "cuda"


@given(st.lists(st.integers(-6, 5), max_size=9))
def test_a_batch_holds_the_rows_asked_for_in_order(rows: list[int]) -> None:
    split = bytes_split()
    x, y = split.batch(torch.tensor(rows, dtype=torch.int64))
    assert x.shape == (len(rows), 2, 3, 4)
    for i, row in enumerate(rows):
        assert torch.equal((x[i] * 255).round().to(torch.uint8), split.images[row])
        assert y[i] == split.labels[row]


@pytest.mark.parametrize(
    ("indices", "rows"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, 4), [0, 4]),
        (torch.tensor([False, True, False, False, True, False]), [1, 4]),
        (torch.tensor([1, 0, 1], dtype=torch.uint8), [1, 0, 1]),
        (torch.tensor([5, 2], dtype=torch.int32), [5, 2]),
    ],
    ids=["all", "slice", "step", "mask", "bytes", "int32"],
)
def test_kinds_of_indices(indices: torch.Tensor | slice | None, rows: list[int]) -> None:
    split = bytes_split()
    x, y = split.batch(indices)
    assert torch.equal(x, split.batch()[0][rows])
    assert torch.equal(y, split.labels[rows])


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (torch.tensor([0, 6]), "outside the 6 images"),
        (torch.tensor([-7]), "outside the 6 images"),
        (torch.tensor([[0]]), "shape"),
        (torch.tensor([0.0]), "integer"),
        (torch.tensor([True]), "mask of 1 does not fit 6"),
    ],
)
def test_indices_that_do_not_fit(indices: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        bytes_split().batch(indices)


def test_pixels_need_a_floating_dtype() -> None:
    with pytest.raises(DataError, match=r"torch\.uint8"):
        bytes_split().batch(dtype=torch.uint8)


def test_taking_a_batch_leaves_the_split_alone() -> None:
    split = Split(images=torch.full((2, 1, 1, 1), 0.5), labels=torch.tensor([0, 1]), scale=1.0)
    split.batch()[0].zero_()
    assert torch.equal(split.images, torch.full((2, 1, 1, 1), 0.5))


def test_subset_keeps_scale_and_order() -> None:
    split = bytes_split()
    part = split.subset(torch.tensor([4, 1]))
    assert len(part) == 2
    assert part.scale == split.scale
    assert torch.equal(part.images, split.images[[4, 1]])
    assert torch.equal(part.labels, split.labels[[4, 1]])
    with pytest.raises(DataError, match="no images"):
        split.subset(slice(0, 0))


def test_points_of_a_toy_problem_fit() -> None:
    assert bytes_split(3, shape=(2,)).input_shape == (2,)


def test_a_dataset_knows_its_input_shape() -> None:
    assert Dataset("toy", bytes_split(6), bytes_split(3), 3).input_shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("train", "test", "classes", "words"),
    [
        (bytes_split(6), bytes_split(3), 2, "training label of 'toy' is 2"),
        (bytes_split(2), bytes_split(3), 2, "test label of 'toy' is 2"),
        (bytes_split(6), bytes_split(3, shape=(2, 3, 5)), 3, "shapes"),
        (bytes_split(1), bytes_split(1), 1, "1 classes"),
        (bytes_split(1), bytes_split(1), 2.0, "whole number"),
        (bytes_split(1), None, 2, "test images of 'toy' must be a Split"),
    ],
)
def test_a_dataset_refuses(train: Split, test: Split, classes: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Dataset("toy", train, test, classes)


def test_the_digest_is_of_the_contents() -> None:
    base = Dataset("toy", bytes_split(6), bytes_split(3), 3)
    assert base.digest() == Dataset("other name", bytes_split(6), bytes_split(3), 3).digest()
    one_pixel = bytes_split(6).images.clone()
    one_pixel[5, 1, 2, 3] ^= 1
    reshaped = [Split(s.images.view(-1, 1, 6, 4), s.labels, 255.0) for s in (base.train, base.test)]
    others = [
        Dataset("toy", Split(one_pixel, base.train.labels, 255.0), base.test, 3),
        Dataset("toy", Split(base.train.images, base.train.labels.flip(0), 255.0), base.test, 3),
        Dataset("toy", Split(base.train.images, base.train.labels, 256.0), base.test, 3),
        Dataset("toy", Split(base.train.images.float(), base.train.labels, 255.0), base.test, 3),
        Dataset("toy", *reshaped, 3),
        Dataset("toy", base.test, base.train, 3),
        Dataset("toy", base.train, base.test, 4),
    ]
    digests = {base.digest(), *(other.digest() for other in others)}
    assert len(digests) == 1 + len(others)


def test_the_digest_does_not_depend_on_strides() -> None:
    split = bytes_split(6)
    strided = Split(split.images.to(memory_format=torch.channels_last), split.labels, 255.0)
    assert not strided.images.is_contiguous()
    assert Dataset("a", strided, split, 3).digest() == Dataset("a", split, split, 3).digest()


def test_validation_images_are_the_last_of_the_training_set() -> None:
    whole = Dataset("toy", bytes_split(6), bytes_split(3), 3)
    apart = whole.with_validation(2)
    assert apart.validation is not None
    assert torch.equal(torch.cat([apart.train.images, apart.validation.images]), whole.train.images)
    assert torch.equal(torch.cat([apart.train.labels, apart.validation.labels]), whole.train.labels)
    assert (len(apart.train), len(apart.validation)) == (4, 2)
    assert apart.test is whole.test
    assert apart.held_out is apart.split("validation") is apart.validation
    assert whole.held_out is whole.split("test") is whole.test
    assert apart.split("train") is apart.train
    assert apart.digest() != whole.digest()
    assert apart.digest() != Dataset("toy", apart.train, apart.test, 3).digest()


@pytest.mark.parametrize("count", [-1, 0, 6, 7])
def test_some_images_are_left_to_train_on(count: int) -> None:
    with pytest.raises(DataError, match=f"'toy' has 6 training images; {count} cannot be for validation"):
        Dataset("toy", bytes_split(6), bytes_split(3), 3).with_validation(count)


@pytest.mark.parametrize(
    ("name", "words"), [("validation", "no validation split; train with --set validation=N"), ("tset", "no tset split")]
)
def test_splits_that_are_not_there(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Dataset("toy", bytes_split(6), bytes_split(3), 3).split(name)


def test_validation_images_are_checked_like_the_others() -> None:
    with pytest.raises(DataError, match="validation label of 'toy' is 2"):
        Dataset("toy", bytes_split(2), bytes_split(2), 2, validation=bytes_split(3))
