"""The affine maps of a graph with a population's weights in place.

Every weight has the members as leading axis, (G, ...), and every value is (G, N, *shape) with N images; a leading 1
broadcasts, so that one input can be shared by all members. A layer offers its linear part and its bias separately,
because bounds push centres through one and radii through the absolute values of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from gls_es.network.graph import BatchNorm, Constant, Conv, Graph, Linear, Node, Pool, Scale, Slice, Window

Buffers = Callable[[str], Tensor]


@dataclass
class Dense:
    """``W z``: weight (G, O, I), bias (G, 1, O) or None."""

    weight: Tensor
    bias: Tensor | None
    bias_size: Tensor | None = None

    @cached_property
    def absolute(self) -> Tensor:
        """|W|."""
        return self.weight.abs()

    def linear(self, z: Tensor, weight: Tensor | None = None) -> Tensor:
        """(G | 1, N, I) -> (G, N, O)."""
        weight = self.weight if weight is None else weight
        return torch.matmul(z, weight.transpose(1, 2))

    def radius(self, r: Tensor) -> Tensor:
        """|W| r."""
        return self.linear(r, self.absolute)

    @property
    def terms(self) -> int:
        """How many products one output sums."""
        return self.weight.shape[-1]


@dataclass
class ConvLayer:
    """A convolution: weight (G, O, C / groups, kh, kw), bias (G, 1, O, 1, 1) or None."""

    weight: Tensor
    bias: Tensor | None
    window: Window
    bias_size: Tensor | None = None

    @cached_property
    def absolute(self) -> Tensor:
        """|W|."""
        return self.weight.abs()

    def linear(self, z: Tensor, weight: Tensor | None = None) -> Tensor:
        """(G | 1, N, C, H, W) -> (G, N, O, h, w)."""
        weight = self.weight if weight is None else weight
        return population_conv(z, weight, self.window)

    def radius(self, r: Tensor) -> Tensor:
        """|W| r."""
        return self.linear(r, self.absolute)

    @property
    def terms(self) -> int:
        """How many products one output sums."""
        return self.weight[0, 0].numel()


@dataclass
class Elementwise:
    """``scale * z``; scale and bias broadcast against (G, N, *shape)."""

    scale: Tensor
    bias: Tensor | None
    bias_size: Tensor | None = None

    def linear(self, z: Tensor) -> Tensor:
        """(G | 1, N, *shape) -> (G, N, *shape)."""
        return z * self.scale

    def radius(self, r: Tensor) -> Tensor:
        """|scale| r."""
        return r * self.scale.abs()

    @property
    def terms(self) -> int:
        """How many products one output sums."""
        return 1


Layer = Dense | ConvLayer | Elementwise


def population_conv(z: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Convolve (G | 1, N, C, H, W) with (G, O, C / groups, kh, kw), each member with its own kernel."""
    options = (None, window.stride, window.padding, window.dilation)
    members = weight.shape[0]
    if members == 1 and z.shape[0] == 1:
        return F.conv2d(z[0], weight[0], *options, window.groups).unsqueeze(0)
    if z.shape[0] == 1 and window.groups == 1:  # one input for all: the members' kernels are one wide kernel
        joint = F.conv2d(z[0], weight.flatten(0, 1), *options)
        return joint.reshape(len(joint), members, -1, *joint.shape[2:]).transpose(0, 1)
    if z.device.type == "cpu":
        each = z.expand(members, *z.shape[1:])
        return torch.stack([F.conv2d(x, w, *options, window.groups) for x, w in zip(each, weight, strict=True)])
    grouped = z.expand(members, *z.shape[1:]).transpose(0, 1).flatten(1, 2)  # (N, G C, H, W)
    joint = F.conv2d(grouped, weight.flatten(0, 1), *options, members * window.groups)
    return joint.reshape(len(joint), members, -1, *joint.shape[2:]).transpose(0, 1)


def materialise(
    graph: Graph,
    params: Tensor,
    buffers: Buffers,
    *,
    sizes: bool = False,
) -> list[Layer | None]:
    """The layer of every node of ``graph`` for the weight vectors ``params`` (G, L); None where a node has none.

    Args:
        graph: the network's graph.
        params: (G, L), floating; gradients flow into it.
        buffers: gives a buffer (BatchNorm statistics, normalisation constants) by name.
        sizes: also fill ``bias_size``, an upper bound on the sum of the absolute values of what is added to the
            products in the order in which the unfused module adds it (for rounding-error bounds).
    """
    read = _Reader(params, buffers, sizes)
    return [read.layer(node) for node in graph.nodes]


class _Reader:
    def __init__(self, params: Tensor, buffers: Buffers, sizes: bool) -> None:
        self._params = params
        self._buffers = buffers
        self._sizes = sizes

    def layer(self, node: Node) -> Layer | None:
        if isinstance(node, Linear):
            weight, bias, size = self._normed(self._slice(node.weight), self._optional(node.bias), node.norm)
            return Dense(weight, _unsqueezed(bias, 0), _unsqueezed(size, 0))
        if isinstance(node, Conv):
            weight, bias, size = self._normed(self._slice(node.weight), self._optional(node.bias), node.norm)
            return ConvLayer(weight, _unsqueezed(bias, 2), node.window, _unsqueezed(size, 2))
        if isinstance(node, Pool):
            kernel = self._params.new_full((1, node.window.groups, 1, *node.window.kernel), 1 / node.divisor)
            return ConvLayer(kernel.expand(self._params.shape[0], -1, -1, -1, -1), None, node.window)
        if isinstance(node, Scale):
            return self._elementwise(node)
        return None

    def _elementwise(self, node: Scale) -> Elementwise:
        if isinstance(node.source, Constant):
            scale, shift = (self._buffer(f"{node.source.key}.{part}")[None, None] for part in ("scale", "shift"))
            return Elementwise(scale, shift, shift.abs() if self._sizes else None)
        scale, shift, size = self._norm(node.source)
        spatial = len(node.shape) - 1
        fitted = [_unsqueezed(v, spatial) for v in (scale, shift, size)]
        assert fitted[0] is not None
        return Elementwise(fitted[0], fitted[1], fitted[2])

    def _normed(
        self, weight: Tensor, bias: Tensor | None, norm: BatchNorm | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Weight and bias with the BatchNorm folded in, and the bias' size."""
        size = bias.abs() if self._sizes and bias is not None else None
        if norm is None:
            return weight, bias, size
        scale, shift, shift_size = self._norm(norm)
        folded = weight * scale.reshape(*scale.shape, *[1] * (weight.dim() - 2))
        if shift_size is not None and size is not None:
            shift_size = shift_size + size * scale.abs()
        return folded, shift if bias is None else shift + bias * scale, shift_size

    def _norm(self, norm: BatchNorm) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scale, shift and the shift's size, (G | 1, C) each."""
        mean = self._buffer(f"{norm.path}.running_mean")[None]
        scale = torch.rsqrt(self._buffer(f"{norm.path}.running_var")[None] + norm.eps)
        if norm.weight is not None:
            scale = scale * self._slice(norm.weight)
        shift = -mean * scale
        size = shift.abs() if self._sizes else None
        if norm.bias is not None:
            bias = self._slice(norm.bias)
            shift = shift + bias
            size = size + bias.abs() if size is not None else None
        return scale, shift, size

    def _slice(self, place: Slice) -> Tensor:
        return self._params[:, place.start : place.stop].reshape(-1, *place.shape)

    def _optional(self, place: Slice | None) -> Tensor | None:
        return None if place is None else self._slice(place)

    def _buffer(self, name: str) -> Tensor:
        return self._buffers(name).to(self._params)


def _unsqueezed(value: Tensor | None, spatial: int) -> Tensor | None:
    """(G, C) -> (G, 1, C, 1, ...), ready to be added to (G, N, C, ...)."""
    return None if value is None else value[:, None].reshape(value.shape[0], 1, value.shape[1], *[1] * spatial)


def propagate(layer: Layer | None, node: Node, inputs: Sequence[Tensor]) -> Tensor:
    """The linear part of a node that is not a ReLU: (G | 1, N, *in) each -> (G, N, *shape)."""
    if layer is not None:
        return layer.linear(inputs[0])
    if len(inputs) == 2:
        return inputs[0] + inputs[1]
    return inputs[0].reshape(*inputs[0].shape[:2], *node.shape)
