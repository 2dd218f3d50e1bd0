"""Architectures of the named problems: those of eth-sri/CTBench (``networks.py``), ReLU after every layer but the last.

C(c, k, s, p) is a convolution with c channels, kernel k, stride s and padding p; FC a linear layer. Every network here
begins with the normalisation of its images, so that eps is in pixel units; its constants are buffers, not parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from gls_es.network import Normalize


@dataclass(frozen=True)
class ImageFormat:
    """What a network's images are.

    Attributes:
        shape: channels, height and width.
        mean: per channel, of pixels in [0, 1]; subtracted by the network's first layer.
        std: per channel; the first layer divides by it.
        classes: K, the number of logits.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int


Convolution = tuple[int, int, int, int]
"""Channels, kernel, stride, padding."""


def digits_cnn3(width: int = 8) -> nn.Sequential:
    """C(w,3,2,1) C(2w,2,2,0) FC for 8x8 images, without normalisation; 1,258 parameters at width 8."""
    return nn.Sequential(
        nn.Conv2d(1, width, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, kernel_size=2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def cnn3(image: ImageFormat, *, width: int, growth: int = 1) -> nn.Sequential:
    """C(w,5,2,2) C(gw,4,2,1) FC: ``cnn_3layer_small`` with w = 8, g = 1; ``cnn_3layer`` with w = 16, g = 2."""
    return _network(image, [(width, 5, 2, 2), (growth * width, 4, 2, 1)], hidden=None, batch_norm=False)


def cnn5(image: ImageFormat, *, width: int, hidden: int, batch_norm: bool) -> nn.Sequential:
    """C(w,3,1,1) C(w,4,2,1) C(2w,4,2,1) FC FC: ``cnn_5layer`` with w = 16 and 512 hidden units."""
    convolutions = [(width, 3, 1, 1), (width, 4, 2, 1), (2 * width, 4, 2, 1)]
    return _network(image, convolutions, hidden=hidden, batch_norm=batch_norm)


def cnn7(image: ImageFormat, *, width: int, hidden: int, batch_norm: bool, last_stride: int = 1) -> nn.Sequential:
    """C(w,3,1,1) C(w,3,1,1) C(2w,3,2,1) C(2w,3,1,1) C(2w,3,s,1) FC FC: ``cnn_7layer_bn`` with w = 64, 512 hidden units.

    The network of Shi et al. (2021, arXiv 2103.17268), SABR and others; ``last_stride`` is 2 for 64x64 images.
    """
    convolutions = [(width, 3, 1, 1)] * 2 + [(2 * width, 3, 2, 1), (2 * width, 3, 1, 1), (2 * width, 3, last_stride, 1)]
    return _network(image, convolutions, hidden=hidden, batch_norm=batch_norm)


def _network(
    image: ImageFormat, convolutions: Iterable[Convolution], *, hidden: int | None, batch_norm: bool
) -> nn.Sequential:
    """Convolutions, then one or two linear layers; BatchNorm, if any, after every layer but the last."""
    channels, height, width = image.shape
    layers: list[nn.Module] = [Normalize(image.mean, image.std)]
    for out, kernel, stride, padding in convolutions:
        layers.append(nn.Conv2d(channels, out, kernel, stride, padding))
        layers += [nn.BatchNorm2d(out)] if batch_norm else []
        layers.append(nn.ReLU())
        channels = out
        height, width = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    layers.append(nn.Flatten())
    features = channels * height * width
    if hidden is not None:
        layers.append(nn.Linear(features, hidden))
        layers += [nn.BatchNorm1d(hidden)] if batch_norm else []
        layers.append(nn.ReLU())
        features = hidden
    return nn.Sequential(*layers, nn.Linear(features, image.classes))
