"""How float32 products are computed on a GPU while training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """A context in which CUDA's matrix products and convolutions of float32 are exact to float32, or are TF32.

    PyTorch's own default mixes them: convolutions in TF32, with ten bits of mantissa, and matrix products not. The
    settings are restored at the end; certification has its own.
    """
    backends: Any = torch.backends  # its submodules are replaced by objects at import, which type checkers do not see
    places = [backends.cuda.matmul, backends.cudnn.conv]
    saved = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for place, precision in zip(places, saved, strict=True):
            place.fp32_precision = precision
