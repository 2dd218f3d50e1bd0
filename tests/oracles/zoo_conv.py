"""Zoo networks of convolutions, pooling, BatchNorm2d and normalisation, and every spelling of relu and flatten."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.oracles.dag import Dag
from tests.oracles.zoo_dense import Chain


def conv_net(conv: nn.Conv2d, height: int = 6, width: int = 6) -> nn.Module:
    """Two channels in; the given convolution, ReLU, a Linear to 4 classes."""
    with torch.no_grad():
        size = conv(torch.zeros(1, conv.in_channels, height, width)).numel()
    return Chain(conv, nn.ReLU(), nn.Flatten(), nn.Linear(size, 4))


def conv_deep() -> nn.Module:
    return Chain(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(4, 5, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 8), nn.ReLU(), nn.Linear(8, 4),
    )  # fmt: skip


def conv_mixed() -> nn.Module:
    """Non-square kernel, stride, padding and dilation in the second layer, whose backward pass sees all of them."""
    return Chain(
        nn.Conv2d(1, 4, (2, 3), stride=(1, 2), padding=(1, 0)), nn.ReLU(),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 1), groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 4 * 4, 3),
    )  # fmt: skip


def conv_leftover() -> nn.Module:
    """Strides that leave pixels of the input out: the transposed convolution must restore the size."""
    return Chain(
        nn.Conv2d(1, 3, 3, stride=3), nn.ReLU(), nn.Conv2d(3, 4, 2, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)
    )


def batch_norm_2d() -> nn.Module:
    return Chain(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 9, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip


def batch_norm_2d_before() -> nn.Module:
    """BatchNorm before padded convolutions: folding its shift into the convolution's bias is wrong at the border."""
    return Chain(
        nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(),
        nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3),
    )  # fmt: skip


def large_maps() -> nn.Module:
    """Maps larger than any window after three convolutions, so that nothing may quietly become dense."""
    return Chain(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(),
        nn.Conv2d(3, 2, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 8 * 7, 3),
    )  # fmt: skip


def large_maps_grouped() -> nn.Module:
    """Groups, dilation and different strides along the axes, on large maps."""
    return Chain(
        nn.Conv2d(2, 4, 3, padding=2, dilation=2, groups=2), nn.ReLU(),
        nn.Conv2d(4, 2, (3, 2), stride=(1, 2), padding=(1, 0), groups=2), nn.ReLU(),
        nn.Conv2d(2, 3, 3, dilation=(1, 2), padding=(0, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 9 * 6, 3),
    )  # fmt: skip


def large_maps_leftover() -> nn.Module:
    """Windows that skip pixels and leave some at the end, padded, on large maps."""
    return Chain(
        nn.Conv2d(1, 3, 2, stride=3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(3, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 3 * 2, 3),
    )  # fmt: skip


def large_maps_pool() -> nn.Module:
    """Overlapping, padded pooling between padded convolutions with BatchNorm in front of them, on large maps."""
    return Chain(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, stride=2, padding=1), nn.BatchNorm2d(2),
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * 6 * 6, 3),
    )  # fmt: skip


class PixelScale(nn.Module):
    """Buffers that differ from pixel to pixel, before a padded convolution and after another."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        self.register_buffer("scale", torch.randn((2, 9, 10), generator=generator))
        self.register_buffer("offset", 0.3 * torch.randn((9, 10), generator=generator))
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1)
        self.conv2 = nn.Conv2d(2, 2, 3, padding=1)
        self.conv3 = nn.Conv2d(2, 2, 3, padding=1, stride=2)
        self.fc = nn.Linear(2 * 5 * 5, 3)

    def mask(self, h: Tensor) -> Tensor:
        return h * self.scale - self.offset

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv2(self.mask(F.relu(self.conv1(x)))))
        h = F.relu(self.conv3(h * self.scale))
        return self.fc(torch.flatten(h, 1))

    def dag(self, d: Dag) -> int:
        h = d.affine(self.mask, d.relu(d.affine(self.conv1, 0)))
        h = d.relu(d.affine(self.conv2, h))
        h = d.relu(d.affine(self.conv3, d.affine(lambda t: t * self.scale, h)))
        return d.affine(self.fc, d.flatten(h))


def pool_overlapping() -> nn.Module:
    return Chain(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, stride=2, padding=1), nn.Conv2d(4, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 4, 3),
    )  # fmt: skip


def pool_plain() -> nn.Module:
    """Kernel 2 on 7 pixels: one row and one column are left out; the pool comes right before a ReLU, too."""
    return Chain(
        nn.AvgPool2d(2), nn.Conv2d(1, 6, 2), nn.AvgPool2d((2, 1), stride=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)
    )


def pool_global() -> nn.Module:
    """Ends in global average pooling, as residual networks do."""
    return Chain(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


def pool_last() -> nn.Module:
    """All convolutions: the margins are folded into the pooling, the last affine layer."""
    return Chain(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def cnn3_small() -> nn.Module:
    """The CNN3 of the method's paper: 5,170 parameters on 1x28x28."""
    return Chain(
        nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(392, 10)
    )


def digits_net() -> nn.Module:
    """1,258 parameters on 1x8x8."""
    return Chain(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)
    )


def normalize_gls() -> nn.Module:
    """gls_es.Normalize first, before a padded convolution (imported when built: the oracles load without gls_es)."""
    normalize = importlib.import_module("gls_es.network").Normalize
    return Chain(
        normalize([0.4, 0.6], [0.25, 0.4]), nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


class NormalizedByHand(nn.Module):
    """(x - mean) / std with buffers, as users write it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.6]).view(1, 2, 1, 1))
        self.register_buffer("std", torch.tensor([0.25, 0.4]).view(1, 2, 1, 1))
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

    def normalize(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.normalize(x))

    def dag(self, d: Dag) -> int:
        return d.chain(self.body, d.affine(self.normalize, 0))


class NormalizeModule(nn.Module):
    """The same as a submodule of the user's own class, with buffers that broadcast from (C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.6]).view(2, 1, 1))
        self.register_buffer("std", torch.tensor([0.25, 0.4]).view(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalize_submodule() -> nn.Module:
    return Chain(NormalizeModule(), nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


class Spellings(nn.Module):
    """relu and flatten in one of their spellings each."""

    def __init__(self, relu: str, flatten: str) -> None:
        super().__init__()
        self.relu_style, self.flatten_style = relu, flatten
        self.conv = nn.Conv2d(1, 3, 3, stride=2)
        self.fc1 = nn.Linear(12, 8)
        self.fc2 = nn.Linear(8, 3)
        self.act = nn.ReLU()
        self.flat = nn.Flatten()

    def relu(self, x: Tensor) -> Tensor:
        styles = {"module": self.act, "F": F.relu, "torch": torch.relu, "method": Tensor.relu}
        if self.relu_style == "method":
            return x.relu()
        return styles[self.relu_style](x)

    def flatten(self, x: Tensor) -> Tensor:
        if self.flatten_style == "module":
            return self.flat(x)
        if self.flatten_style == "torch":
            return torch.flatten(x, 1)
        if self.flatten_style == "method":
            return x.flatten(1)
        if self.flatten_style == "view":
            return x.view(x.size(0), -1)
        return x.reshape(x.shape[0], -1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.flatten(self.relu(self.conv(x)))
        return self.fc2(self.relu(self.fc1(h)))

    def dag(self, d: Dag) -> int:
        h = d.flatten(d.relu(d.affine(self.conv, 0)))
        return d.affine(self.fc2, d.relu(d.affine(self.fc1, h)))
