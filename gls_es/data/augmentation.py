"""Random flips and shifted crops of a whole batch, as pure functions of (batch, generator).

Pixels are only moved, never mixed: a batch in [0, 1] stays there, and any dtype is taken. Random numbers are drawn on
the generator's device and follow the batch, so that a CPU generator gives the same augmentation on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.errors import ConfigError, DataError


def random_flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        batch: (B, C, H, W), any dtype and device; left as it is.
        generator: source of B random numbers.

    Returns:
        (B, C, H, W), a new tensor.

    Raises:
        DataError: if ``batch`` does not have four axes.
    """
    _check(batch)
    coin = torch.rand(len(batch), generator=generator, device=generator.device) < 0.5
    return torch.where(coin.to(batch.device).view(-1, 1, 1, 1), batch.flip(-1), batch)


def random_crop_replicate(batch: Tensor, generator: torch.Generator, *, pad: int = 2) -> Tensor:
    """Pad each image by its edge pixels and cut the original size out again, anywhere with equal probability.

    Args:
        batch: (B, C, H, W), any dtype and device; left as it is.
        generator: source of 2 B random numbers.
        pad: pixels added on each of the four sides; shifts are uniform on -pad..pad along both axes.

    Returns:
        (B, C, H, W), a new tensor.

    Raises:
        ConfigError: if ``pad`` is negative.
        DataError: if ``batch`` does not have four axes.
    """
    _check(batch)
    if pad < 0:
        raise ConfigError(f"pad is {pad}; a crop needs a pad of 0 or more.")
    size, _, height, width = batch.shape
    shift = torch.randint(-pad, pad + 1, (2, size, 1), generator=generator, device=generator.device).to(batch.device)
    # Clamping the source position is the same as padding with the edge, for every dtype and without the padded copy.
    rows = (torch.arange(height, device=batch.device) + shift[0]).clamp_(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=batch.device) + shift[1]).clamp_(0, width - 1)  # (B, W)
    image = torch.arange(size, device=batch.device).view(-1, 1, 1)
    moved = batch.movedim(1, -1)[image, rows.unsqueeze(2), columns.unsqueeze(1)]  # (B, H, W, C)
    return moved.movedim(-1, 1).contiguous()


def _check(batch: Tensor) -> None:
    if batch.ndim != 4 or 0 in batch.shape[1:]:
        raise DataError(f"a batch to augment has shape {tuple(batch.shape)}; (B, C, H, W) is needed.")
