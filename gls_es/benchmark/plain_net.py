"""What the plain loop can bound: a sequence of convolutions or linear layers with a ReLU between any two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from gls_es.benchmark.windows import Windows
from gls_es.errors import ConfigError
from gls_es.network import Network
from gls_es.network.graph import Constant, Conv, Linear, Node, ReLU, Reshape, Scale, Slice


@dataclass(frozen=True)
class PlainLayer:
    """A convolution or linear layer.

    Attributes:
        node: its node in the traced graph.
        source: shape of its input, (C, H, W); (F, 1, 1) for flat values.
        shape: shape of its output, without trailing ones for flat values.
    """

    node: Conv | Linear
    source: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of a convolution's output, (F,) of a linear layer's."""
        return self.node.shape

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return isinstance(self.node, Conv)

    def weights(self, theta: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the member ``theta`` (L,)."""
        bias = None if self.node.bias is None else _read(theta, self.node.bias)
        return _read(theta, self.node.weight), bias

    def forwards(self, z: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output for (B, *input)."""
        if isinstance(self.node, Linear):
            return F.linear(z.flatten(1), weight, bias)
        window = self.node.window
        maps = z.reshape(-1, *self.source)
        return F.conv2d(maps, weight, bias, window.stride, window.padding, window.dilation, window.groups)

    def backwards(self, a: Tensor, weight: Tensor, windows: Windows) -> tuple[Tensor, Windows]:
        """Coefficients (n, l, S, C, h, w) on the output as coefficients on the input, and where those lie."""
        if isinstance(self.node, Linear):
            return (a.flatten(3) @ weight).unflatten(3, self.source), Windows.whole(self.source)
        window = self.node.window
        padding, extra = (0, 0), (0, 0)
        if windows.count == 1:
            reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]
            padding = window.padding
            sizes = [(self.shape[1 + i] - 1) * window.stride[i] - 2 * padding[i] + reach[i] for i in (0, 1)]
            extra = (self.source[1] - sizes[0], self.source[2] - sizes[1])
        maps = a.reshape(-1, *a.shape[3:])
        if windows.count == 1:
            maps = maps.reshape(-1, *self.shape)
        found = F.conv_transpose2d(
            maps, weight, None, window.stride, padding, extra, window.groups, window.dilation
        ).unflatten(0, a.shape[:3])
        return found, Windows.whole(self.source) if windows.count == 1 else windows.before(window)


class PlainNet:
    """The layers of a network that is a plain sequence.

    Args:
        net: the network: constant scalings of the input (or none), then convolutions and linear layers with a ReLU
            between any two, the last one linear.

    Raises:
        ConfigError: it is something else.
    """

    def __init__(self, net: Network) -> None:
        self.layers: list[PlainLayer] = []
        self._net = net
        self._scales: list[Constant] = []
        relu = True  # whether the next layer may follow
        for index, node in enumerate(net.graph.nodes[1:], 1):
            if node.inputs != (index - 1,):
                raise _refusal(node, "its inputs are not what comes before it")
            if isinstance(node, Scale) and isinstance(node.source, Constant) and not self.layers:
                self._scales.append(node.source)
            elif isinstance(node, ReLU) and not relu:
                relu = True
            elif isinstance(node, (Conv, Linear)) and node.norm is None and relu and not _rearranged(node):
                self._append(node, net.graph.nodes[index - 1].shape)
                relu = False
            elif not isinstance(node, Reshape):
                raise _refusal(node, "it is neither a convolution, linear layer, ReLU nor flatten in its turn")
        if relu or self.layers[-1].is_conv:
            raise _refusal(net.graph.nodes[-1], "the last layer must be linear")

    def _append(self, node: Conv | Linear, source: tuple[int, ...]) -> None:
        spatial = (source[0], source[1], source[2]) if len(source) == 3 else (source[0], 1, 1)
        if isinstance(node, Linear):
            # a flattened map keeps its shape for the layer before it
            spatial = self._mapped(math.prod(source))
        elif self.layers and self.layers[-1].shape != source:
            raise _refusal(node, "its input was not a map before")
        self.layers.append(PlainLayer(node, spatial))

    def _mapped(self, features: int) -> tuple[int, int, int]:
        before = self.layers[-1].shape if self.layers else self._net.input_shape
        return (before[0], before[1], before[2]) if len(before) == 3 else (features, 1, 1)

    def entry(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and radius of the boxes where the first layer sees them."""
        centre, radius = (lower + upper) / 2, (upper - lower) / 2
        for source in self._scales:
            scale, shift = self._net.constant(source, centre)
            centre, radius = centre * scale + shift, radius * scale.abs()
        return centre, radius

    def passes(self, method: str) -> list[int]:
        """The layers from which the relaxation starts a backward pass."""
        return list(range(1, len(self.layers))) if method == "crown" else [len(self.layers) - 1]

    def image_numbers(self, index: int) -> int:
        """The most coefficients that a backward pass from layer ``index`` holds at once, per image."""
        layer = self.layers[index]
        windows = Windows((layer.shape[1], layer.shape[2])) if layer.is_conv else Windows((1, 1))
        largest = 1
        for before in reversed(self.layers[: index + 1]):
            if windows.count > 1 and isinstance(before.node, Conv):
                windows = windows.before(before.node.window)
                if windows.area < before.source[1] * before.source[2]:
                    largest = max(largest, windows.count * windows.area * before.source[0])
                    continue
            count = math.prod(layer.shape[1:])
            windows = Windows((1, 1))
            largest = max(largest, count * math.prod(before.source))
        return 2 * layer.shape[0] * largest


def _rearranged(node: Conv | Linear) -> bool:
    return node.turned or (isinstance(node, Linear) and node.columns is not None)


def _read(theta: Tensor, place: Slice) -> Tensor:
    return theta[place.start : place.stop].reshape(place.shape)


def _refusal(node: Node, reason: str) -> ConfigError:
    where = f"{node.path!r} ({type(node).__name__})"
    return ConfigError(f"the plain loop bounds sequences of layers only, and stops at {where}: {reason}.")
