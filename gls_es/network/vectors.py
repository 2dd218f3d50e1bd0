"""The weights of a module as one vector, and back, whatever the order is in which they lie in memory.

PyTorch's own functions take row-major weights only, and leave such behind: a convolution whose weight has its channels
last gives values that have them last, which a forward pass may go by.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def last_channels(parameter: Tensor) -> bool:
    """Whether a convolution's weight lies in memory with its channels last."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = layouts.get(parameter.dim())
    return layout is not None and parameter.is_contiguous(memory_format=layout)


def vector_of(parameters: Iterable[Tensor]) -> Tensor:
    """All numbers, (L,), in the order of ``torch.nn.utils.parameters_to_vector``; (0,) if there are none."""
    parts = [parameter.reshape(-1) for parameter in parameters]
    return torch.cat(parts) if parts else torch.zeros(0)


def fill(parameters: Iterable[nn.Parameter], vector: Tensor) -> None:
    """Give weights the numbers of a vector (L,), with its type and device; they keep their order in memory."""
    start = 0
    for parameter in parameters:
        part = vector[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
        parameter.data = torch.empty_like(parameter.detach(), dtype=vector.dtype, device=vector.device).copy_(part)
