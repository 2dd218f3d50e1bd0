"""Maximum pooling: the values that each place of the window reads, and their maxima, two by two.

Max(a, b) = b + ReLU(a - b), so whatever knows ReLU knows these networks. Padding counts as nothing in PyTorch: where a
place of the window lies outside the map, another one of the same window is read in its stead, which changes no maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gls_es.network.activation_translations import larger
from gls_es.network.operators import Refused
from gls_es.network.translation import Activation, Translation

MOST_PLACES = 25
"""The most places of a window: every further one is another layer's worth of ReLUs."""


def _max_pool(
    t: Translation, where: str, out: Tensor, *, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> int:
    source = t.activation(x)
    if len(t.shape(source)) != 3:
        raise Refused("maximum pooling has bounds over channels of images only")
    kernel, padding, dilation = _pair(kernel_size), _pair(padding), _pair(dilation)
    if math.prod(kernel) > MOST_PLACES:
        raise Refused(f"a maximum of {math.prod(kernel)} values has no bounds here; pool in several steps")
    steps = _pair(stride) if stride else kernel
    numbers, size = t.numbered(source.node), t.shape_of(out)
    rows, columns = (
        _read(numbers.shape[1 + i], size[1 + i], kernel[i], steps[i], padding[i], dilation[i]) for i in (0, 1)
    )
    places = [numbers[:, row][:, :, column] for row in rows for column in columns]
    values = [Activation(t.arranged(where, source.node, place)) for place in places]
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        joined = [Activation(larger(t, where, out, one, other)) for one, other in pairs]
        values = joined + values[len(values) - len(values) % 2 :]
    return values[0].node


def _read(inputs: int, outputs: int, kernel: int, step: int, padding: int, dilation: int) -> Tensor:
    """Which row of the map each row of the window reads for each output, (kernel, outputs)."""
    place = torch.arange(outputs) * step - padding + torch.arange(kernel)[:, None] * dilation
    inside = (place >= 0) & (place < inputs)
    if not bool(inside.any(dim=0).all()):
        raise Refused("a window of its sees nothing but padding")
    first = place.masked_fill(~inside, inputs).amin(dim=0)
    return torch.where(inside, place, first)


def _pair(value: Any) -> tuple[int, int]:
    one, *rest = (value, value) if isinstance(value, int) else value
    return int(one), int(rest[0] if rest else one)


OPERATORS: dict[str, Callable[..., int]] = dict.fromkeys(
    ("aten::max_pool2d_with_indices", "aten::max_pool2d", "aten::mkldnn_max_pool2d"), _max_pool
)
