"""Matrix products of many rows with members' matrices, by whichever of the CPU's two libraries is faster.

PyTorch sends float32 products to MKL and convolutions to oneDNN. On processors that MKL does not know oneDNN is more
than twice as fast (230 against 100 GFLOP/s on an AMD core with AVX-512), and it should be about as fast on others. A
product is a 1x1 convolution of pixels whose channels lie side by side in memory, so that no number is moved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 1 << 22
"""Products of fewer multiplications than this stay with MKL: the other way has more fixed cost."""

IMAGES = range(16, 65)
"""The rows are dealt to so many "images": with one thread PyTorch gives 1x1 convolutions of fewer to MKL, too."""


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """(G | 1, M, K) times (G | 1, K, N): (G, M, N)."""
    images = _images(rows, matrix)
    if images == 0:
        return torch.matmul(rows, matrix)
    members = max(len(rows), len(matrix))
    if members == 1:
        return _by_convolution(rows[0], matrix[0], images).unsqueeze(0)
    pairs = zip(rows.expand(members, -1, -1), matrix.expand(members, -1, -1), strict=True)
    return torch.stack([_by_convolution(r, m, images) for r, m in pairs])


def _images(rows: Tensor, matrix: Tensor) -> int:
    """To how many images the rows are dealt; 0 if a plain product is better."""
    count = rows.shape[1]
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or count * matrix[0].numel() < LEAST:
        return 0
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return 0
    return next((images for images in IMAGES if count % images == 0), 0)


def _by_convolution(rows: Tensor, matrix: Tensor, images: int) -> Tensor:
    """(M, K) times (K, N) as a convolution of (images, K, M / images, 1)."""
    pixels = rows.reshape(images, -1, 1, rows.shape[1]).permute(0, 3, 1, 2)
    found = F.conv2d(pixels, matrix.t()[:, :, None, None])
    return found.permute(0, 2, 3, 1).reshape(len(rows), -1)
