"""Flips and crops against a slow oracle: torch's own padding and one slice an image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from gls_es.data import random_crop_replicate, random_flip
from gls_es.errors import ConfigError, DataError


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(size: int, *, shape: tuple[int, int, int] = (3, 5, 4), dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.randperm(size * shape[0] * shape[1] * shape[2], generator=source(7))
    return values.view(size, *shape).to(dtype)


def windows(image: Tensor, pad: int) -> list[Tensor]:
    """Every crop there is of one (C, H, W) image, row shift first."""
    padded = functional.pad(image[None], (pad,) * 4, mode="replicate")[0]
    height, width = image.shape[1:]
    steps = range(2 * pad + 1)
    return [padded[:, i : i + height, j : j + width] for i in steps for j in steps]


@given(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 99)
)
def test_each_crop_is_a_window_of_the_padded_image(
    size: int, channels: int, height: int, width: int, pad: int, seed: int
) -> None:
    batch = pictures(size, shape=(channels, height, width))
    cropped = random_crop_replicate(batch, source(seed), pad=pad)
    assert cropped.shape == batch.shape
    for before, after in zip(batch, cropped, strict=True):
        assert any(torch.equal(after, window) for window in windows(before, pad))


def test_every_shift_is_equally_likely() -> None:
    image, pad, size = pictures(1), 2, 10_000
    cropped = random_crop_replicate(image.expand(size, -1, -1, -1), source(), pad=pad)
    counts = torch.tensor([int((cropped == window).flatten(1).all(1).sum()) for window in windows(image[0], pad)])
    assert int(counts.sum()) == size
    chi_square = float(((counts - size / 25) ** 2 / (size / 25)).sum())
    assert chi_square < 51.2  # 24 degrees of freedom, one in a thousand; the seed is fixed


def test_flips_are_half_of_the_images_and_exact_mirrors() -> None:
    batch = pictures(2000)
    flipped = random_flip(batch, source())
    same = (flipped == batch).flatten(1).all(1)
    mirror = (flipped == torch.stack([image[:, :, [3, 2, 1, 0]] for image in batch])).flatten(1).all(1)
    assert bool((same ^ mirror).all())
    assert 900 < int(mirror.sum()) < 1100  # 4.5 standard deviations; the seed is fixed


@pytest.mark.parametrize("augment", [random_flip, random_crop_replicate])
class TestBoth:
    def test_is_a_pure_function_of_batch_and_generator(self, augment) -> None:
        batch = pictures(64)
        before, global_state = batch.clone(), torch.get_rng_state()
        first, again, other = (augment(batch, source(seed)) for seed in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(batch, before)
        assert torch.equal(torch.get_rng_state(), global_state)

    def test_advances_the_generator(self, augment) -> None:
        generator = source(3)
        assert not torch.equal(augment(pictures(64), generator), augment(pictures(64), generator))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
    def test_takes_every_dtype_with_the_same_moves(self, augment, dtype: torch.dtype) -> None:
        batch = pictures(4, dtype=dtype)
        moved = augment(batch, source(3))
        assert moved.dtype == dtype
        assert moved.is_contiguous()
        assert torch.equal(moved, augment(batch.double(), source(3)).to(dtype))

    def test_takes_an_empty_batch(self, augment) -> None:
        assert augment(torch.zeros(0, 3, 5, 4), source()).shape == (0, 3, 5, 4)

    @pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4), (1, 1, 3, 5, 4), (2, 3, 0, 4)])
    def test_refuses_what_is_no_batch_of_images(self, augment, shape: tuple[int, ...]) -> None:
        with pytest.raises(DataError, match=r"\(B, C, H, W\)"):
            augment(torch.zeros(shape), source())

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_does_not_depend_on_the_device(self, augment) -> None:
        batch = pictures(64)
        assert torch.equal(augment(batch.cuda(), source(3)).cpu(), augment(batch, source(3)))


def test_a_negative_pad_is_refused() -> None:
    with pytest.raises(ConfigError, match="pad is -1"):
        random_crop_replicate(pictures(1), source(), pad=-1)


def test_no_pad_changes_nothing() -> None:
    assert torch.equal(random_crop_replicate(pictures(5), source(), pad=0), pictures(5))
