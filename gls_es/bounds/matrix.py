"""A small convolution as a dense matrix: one product instead of many small convolutions, for all members at once.

The matrix of every member holds the member's kernel numbers at the same places, so it is gathered by an index that
depends on the geometry alone and is computed once.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.network.graph import Window

Pair = tuple[int, int]

ALONE, TOGETHER = 6.0, 8.0
"""The matrix may multiply at most this many times more numbers than a stride-1 convolution on cells would: products run
at two to three times the speed of small convolutions, and several members' at once where convolutions take turns."""

LARGEST = 1 << 18
"""The most numbers one member's matrix may hold; beyond it convolutions are efficient."""


def is_small(weight: Tensor, window: Window, outputs: Pair, inputs: Pair) -> bool:
    """Whether a convolution from maps of size ``inputs`` to maps of size ``outputs`` is better done as a matrix."""
    channels = weight.shape[2] * window.groups
    as_matrix, as_convolution = 1, 1
    for place in (0, 1):
        taps = -(-window.kernel[place] // window.stride[place])
        as_matrix *= outputs[place] * inputs[place]
        as_convolution *= (outputs[place] + taps - 1) * window.stride[place] * taps
    if weight.shape[1] * channels * as_matrix > LARGEST:
        return False
    limit = ALONE if weight.shape[0] == 1 else TOGETHER
    return as_matrix * window.groups <= limit * as_convolution


def convolution_matrix(weight: Tensor, window: Window, outputs: Pair, inputs: Pair, padding: Pair) -> Tensor:
    """The members' convolutions as matrices.

    Args:
        weight: (G, O, C / groups, kh, kw).
        window: the geometry; its padding is replaced by ``padding``.
        outputs: size of the output maps.
        inputs: size of the input maps.
        padding: zeros around the input maps.

    Returns:
        (G, O outputs, C inputs): an output is its row times the flat input.
    """
    members, channels_out, channels_in = weight.shape[:3]
    index = _places(window, channels_out, channels_in, outputs, inputs, padding).to(weight.device)
    flat = F.pad(weight.reshape(members, -1), (1, 0))  # place 0 is a zero
    rows = channels_out * outputs[0] * outputs[1]
    return flat.index_select(1, index).reshape(members, rows, -1)


@lru_cache(maxsize=256)
def _places(window: Window, channels_out: int, channels_in: int, outputs: Pair, inputs: Pair, padding: Pair) -> Tensor:
    """Where each number of the matrix stands in the flat kernel, from 1; 0 where there is none.

    The transposed convolution of unit vectors by a kernel that holds its own numbering gives every place at once: a
    pair of an output and an input meets in one tap at most.
    """
    count = channels_out * channels_in * window.kernel[0] * window.kernel[1]
    numbers = torch.arange(1, count + 1, dtype=torch.float64).reshape(channels_out, channels_in, *window.kernel)
    rows = channels_out * outputs[0] * outputs[1]
    units = torch.eye(rows, dtype=torch.float64).reshape(rows, channels_out, *outputs)
    found = F.conv_transpose2d(units, numbers, None, window.stride, 0, 0, window.groups, window.dilation)
    found = found[..., padding[0] :, padding[1] :][..., : inputs[0], : inputs[1]]
    missing = (inputs[0] - found.shape[-2], inputs[1] - found.shape[-1])
    return F.pad(found, (0, missing[1], 0, missing[0])).to(torch.int64).flatten()
