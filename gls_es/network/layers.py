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

from gls_es.network.graph import (
    BatchNorm,
    Constant,
    Conv,
    Factor,
    Graph,
    Learned,
    Linear,
    Node,
    Pool,
    Scale,
    Select,
    Slice,
    Window,
)
from gls_es.network.places import Places
from gls_es.network.steps import Norm, Steps, constant_steps, per_channel, pool_steps

Buffers = Callable[[str], Tensor]


@dataclass
class Dense:
    """``W z``: weight (G, O, I), bias (G, 1, O) or None."""

    weight: Tensor
    bias: Tensor | None
    bias_size: Tensor | None = None
    steps: Steps | None = None

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
    steps: Steps | None = None

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
    steps: Steps | None = None

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


@dataclass
class Selection:
    """Copies of its inputs' values, and constants (1, 1, *shape) or None as a bias; it errs nowhere."""

    places: Places
    shape: tuple[int, ...]
    bias: Tensor | None
    bias_size: Tensor | None = None
    steps: Steps | None = None

    def linear(self, *values: Tensor | None) -> Tensor:
        """(G | 1, N, *in) each, None for zeros -> (G | 1, N, *shape)."""
        some = next(v for v in values if v is not None)
        members, images = (max(v.shape[axis] for v in values if v is not None) for axis in (0, 1))
        flat = [
            some.new_zeros(1, 1, size).expand(members, images, -1)
            if value is None
            else value.flatten(2).expand(members, images, -1)
            for value, size in zip(values, self.places.sizes, strict=True)
        ]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat, 2)
        found: Tensor = self.places.select(joined).unflatten(2, self.shape)
        return found

    def radius(self, *sizes: Tensor | None) -> Tensor:
        """The same of how far the values reach."""
        return self.linear(*sizes)

    def spread(self, coefficients: Tensor) -> list[Tensor]:
        """(..., n) on the copies -> coefficients (..., in) on the flat values of each input."""
        return list(self.places.spread(coefficients).split(self.places.sizes, -1))

    @property
    def terms(self) -> int:
        """How many products one output sums."""
        return 1


Layer = Dense | ConvLayer | Elementwise | Selection


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
        sizes: also fill in what errors of execution depend on: ``bias_size``, an upper bound on the sum of the
            absolute values of what the unfused module adds to the products, and ``steps``, what it computes on the way.
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
            return Dense(*self._affine(node, 0))
        if isinstance(node, Conv):
            weight, bias, size, steps = self._affine(node, 2)
            return ConvLayer(weight, bias, node.window, size, steps)
        if isinstance(node, Pool):
            kernel = self._params.new_full((1, node.window.groups, 1, *node.window.kernel), 1 / node.divisor)
            steps = pool_steps(node.window) if self._sizes else None
            return ConvLayer(kernel.expand(self._params.shape[0], -1, -1, -1, -1), None, node.window, steps=steps)
        if isinstance(node, Scale):
            return self._elementwise(node)
        if isinstance(node, Select):
            fill = None if node.fill is None else self._buffer(node.fill).reshape(1, 1, *node.shape)
            return Selection(node.places, node.shape, fill)
        return None

    def _elementwise(self, node: Scale) -> Elementwise:
        if isinstance(node.source, Constant):
            scale, shift = (self._buffer(f"{node.source.key}.{part}")[None, None] for part in ("scale", "shift"))
            known = (shift.abs(), constant_steps(scale)) if self._sizes else (None, None)
            return Elementwise(scale, shift, *known)
        if isinstance(node.source, Learned):
            places = node.source.scale, node.source.shift
            factor, summand = (None if place is None else self._slice(place)[:, None] for place in places)
            factor = self._params.new_ones(1, 1, *[1] * len(node.shape)) if factor is None else factor
            return Elementwise(factor, summand, None if summand is None or not self._sizes else summand.abs())
        spatial = len(node.shape) - 1
        if isinstance(node.source, Factor):
            factor = per_channel(self._slice(node.source.place), spatial)
            factor = 1 - factor if node.source.complement else factor
            return Elementwise(factor, None, None, constant_steps(factor) if self._sizes else None)
        norm = self._norm(node.source)
        scale, shift = per_channel(norm.scale, spatial), per_channel(norm.shift, spatial)
        known = (per_channel(norm.size, spatial), norm.steps(spatial)) if self._sizes else (None, None)
        return Elementwise(scale, shift, *known)

    def _affine(self, node: Linear | Conv, spatial: int) -> tuple[Tensor, Tensor | None, Tensor | None, Steps | None]:
        """Weight and bias with the BatchNorm folded in, the bias' size and the steps."""
        weight, bias = multiplied(node, self._slice(node.weight)), None if node.bias is None else self._slice(node.bias)
        size = bias.abs() if self._sizes and bias is not None else None
        steps = None
        if node.norm is not None:
            norm = self._norm(node.norm)
            if self._sizes:
                steps = norm.steps(spatial, weight, bias)
                size = norm.size if size is None else norm.size + size * norm.scale.abs()
            weight = weight * norm.scale.reshape(*norm.scale.shape, *[1] * (weight.dim() - 2))
            bias = norm.shift if bias is None else norm.shift + bias * norm.scale
        bias, size = (None if v is None else per_channel(v, spatial) for v in (bias, size))
        return weight, bias, size, steps

    def _norm(self, norm: BatchNorm) -> Norm:
        """The numbers of a BatchNorm."""
        mean = self._buffer(f"{norm.path}.running_mean")[None]
        variance = self._buffer(f"{norm.path}.running_var")[None] + norm.eps
        gamma, beta = (None if place is None else self._slice(place) for place in (norm.weight, norm.bias))
        scale = torch.rsqrt(variance)
        scale = scale if gamma is None else scale * gamma
        shift = -mean * scale
        return Norm(scale, shift if beta is None else shift + beta, mean, variance, gamma, beta)

    def _slice(self, place: Slice) -> Tensor:
        return self._params[:, place.start : place.stop].reshape(-1, *place.shape)

    def _buffer(self, name: str) -> Tensor:
        return self._buffers(name).to(self._params)


def multiplied(node: Linear | Conv, weight: Tensor) -> Tensor:
    """A layer's weight (G, ...) as it multiplies what the node reads, (G, out, in) or (G, out, in / groups, kh, kw)."""
    if isinstance(node, Linear):
        weight = weight.transpose(1, 2) if node.turned else weight
        return weight if node.columns is None else node.columns.spread(weight)
    if not node.turned:
        return weight
    grouped: Tensor = weight.unflatten(1, (node.window.groups, -1)).transpose(2, 3)  # (G, groups, out, in, kh, kw)
    return grouped.flatten(1, 2).flip((3, 4))


def propagate(layer: Layer | None, node: Node, inputs: Sequence[Tensor | None]) -> Tensor:
    """The linear part of a node that is affine: (G | 1, N, *in) each, None for zeros -> (G, N, *shape)."""
    if isinstance(layer, Selection):
        return layer.linear(*inputs)
    known = [value for value in inputs if value is not None]
    if layer is not None:
        return layer.linear(known[0])
    if len(known) == 2:
        return known[0] + known[1]
    return known[0].reshape(*known[0].shape[:2], *node.shape)


def reached(layer: Layer | None, node: Node, radii: Sequence[Tensor | None]) -> Tensor:
    """How far a node's value moves if those that it reads move by ``radii``; shapes as in :func:`propagate`."""
    if isinstance(layer, Selection):
        return layer.radius(*radii)
    known = [radius for radius in radii if radius is not None]
    return propagate(None, node, known) if layer is None else layer.radius(known[0])
