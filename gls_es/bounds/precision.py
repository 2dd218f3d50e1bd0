"""Products in full float32 on CUDA, whatever PyTorch is set to.

cuDNN's convolutions use TF32 unless told otherwise: operands are rounded to 10 bits, and bounds then come out up to one
percent below the exact ones. Inside it is off; the settings are put back afterwards. The backward pass of a gradient
runs outside and follows PyTorch's own settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device, *, tf32: bool = False) -> Iterator[None]:
    """No TF32 inside, on CUDA.

    Args:
        device: where is computed; on anything but CUDA there is nothing to do.
        tf32: leave PyTorch's settings as they are.
    """
    if device.type != "cuda" or tf32:
        yield
        return
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
