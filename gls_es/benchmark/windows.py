"""The plain loop's receptive fields: which pixels of an earlier map the neurons of a convolution depend on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.network.graph import Window

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Window (i, j) covers the pixels from (i, j) stride - padding on, ``kernel`` of them in each direction.

    A single window is a whole map.
    """

    positions: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Windows:
        """The one window that is a map of ``shape`` (C, H, W)."""
        return cls((1, 1), (shape[1], shape[2]))

    @property
    def count(self) -> int:
        """How many there are."""
        return self.positions[0] * self.positions[1]

    @property
    def area(self) -> int:
        """Pixels in one."""
        return self.kernel[0] * self.kernel[1]

    def before(self, window: Window) -> Windows:
        """The windows on the input of a convolution."""
        axes = (0, 1)
        return Windows(
            self.positions,
            _pair(
                [
                    (self.kernel[i] - 1) * window.stride[i] + (window.kernel[i] - 1) * window.dilation[i] + 1
                    for i in axes
                ]
            ),
            _pair([self.stride[i] * window.stride[i] for i in axes]),
            _pair([self.padding[i] * window.stride[i] + window.padding[i] for i in axes]),
        )


def view(values: Tensor, windows: Windows) -> Tensor:
    """What the windows see of maps (n, C, H, W), zero outside: (n, positions, C, h, w)."""
    if windows.count == 1:
        return values[:, None]
    pads = []
    for axis in (1, 0):
        end = (windows.positions[axis] - 1) * windows.stride[axis] - windows.padding[axis] + windows.kernel[axis]
        pads += [windows.padding[axis], max(0, end - values.shape[2 + axis])]
    padded = F.pad(values, pads)
    seen = padded.unfold(2, windows.kernel[0], windows.stride[0]).unfold(3, windows.kernel[1], windows.stride[1])
    seen = seen[:, :, : windows.positions[0], : windows.positions[1]]  # (n, C, rows, columns, h, w)
    return seen.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def spread(a: Tensor, windows: Windows, shape: tuple[int, int, int]) -> Tensor:
    """Coefficients (n, positions, S, C, h, w) on windows as coefficients on maps: (n, 1, positions S, C, H, W)."""
    maps = []
    a = a.expand(-1, windows.count, *[-1] * 4)
    for index in range(windows.count):
        place = divmod(index, windows.positions[1])
        pads = []
        for axis in (1, 0):
            first = place[axis] * windows.stride[axis] - windows.padding[axis]
            pads += [first, shape[1 + axis] - first - windows.kernel[axis]]
        maps.append(F.pad(a[:, index], pads))  # a negative pad cuts off
    return torch.stack(maps, 1).flatten(1, 2)[:, None]


def _pair(values: list[int]) -> Pair:
    return values[0], values[1]
