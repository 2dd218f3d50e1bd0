"""The baseline: members bounded one after another by the same algorithm in the form in which one would write it down.

It gives the same bounds as :mod:`gls_es.bounds` for networks that are a plain sequence of convolutions, linear layers
and ReLUs, and shares no code with it. Each convolution's neurons are bounded through their receptive fields, as there,
so that what the comparison shows is execution and not another algorithm. Everything else is the textbook's: upper lines
for positive and lower lines for negative coefficients, split by sign; biases added at every layer; PyTorch's own
transposed convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gls_es.benchmark.plain_net import PlainLayer, PlainNet
from gls_es.benchmark.windows import Windows, spread, view
from gls_es.errors import ConfigError
from gls_es.fitness.losses import robust_cross_entropy

METHODS = ("ibp", "crown-ibp", "crown")
"""The relaxations that the plain loop knows."""

Weights = list[tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class PlainLoop:
    """Margins, losses and gradients of one member after the other.

    Attributes:
        net: the network; see :class:`~gls_es.benchmark.plain_net.PlainNet` for what is refused.
        method: one of :data:`METHODS`.
        chunk_bytes: the most that one tensor of coefficients may take; images are bounded in chunks accordingly.
    """

    net: PlainNet
    method: str
    chunk_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"the plain loop knows {', '.join(METHODS)}, not {self.method!r}.")

    def margins(self, lower: Tensor, upper: Tensor, labels: Tensor, params: Tensor) -> Tensor:
        """Lower bounds of f_y - f_j for boxes (B, *input_shape) and members (P, L): (P, B, K - 1)."""
        centre, radius = self.net.entry(lower, upper)
        return torch.stack([self._member(centre, radius, labels, theta) for theta in params])

    def losses(self, lower: Tensor, upper: Tensor, labels: Tensor, params: Tensor) -> Tensor:
        """Every member's mean robust cross-entropy, (P,)."""
        return robust_cross_entropy(self.margins(lower, upper, labels, params)).mean(1)

    def mean_gradient(self, lower: Tensor, upper: Tensor, labels: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (P,) and the mean of their gradients (L,) by ordinary autograd, in chunks of images.

        The graph of a chunk holds every step's coefficients; ``chunk_bytes`` bounds one of them.
        """
        size = len(labels) if self.method == "ibp" else self._images(self.net.passes(self.method))
        total, losses = torch.zeros_like(params[0]), []
        for theta in params:
            leaf, loss = theta.detach().clone().requires_grad_(), theta.new_zeros(())
            for start in range(0, len(labels), size):
                part = slice(start, start + size)
                with torch.enable_grad():
                    found = self.losses(lower[part], upper[part], labels[part], leaf[None])[0]
                    piece = found * (len(labels[part]) / len(labels))
                    total += torch.autograd.grad(piece, leaf)[0]
                loss += piece.detach()
            losses.append(loss)
        return torch.stack(losses), total / len(params)

    # -- one member ---------------------------------------------------------------------------------------------------

    def _member(self, centre: Tensor, radius: Tensor, labels: Tensor, theta: Tensor) -> Tensor:
        layers = self.net.layers
        weights = [layer.weights(theta) for layer in layers]
        others = _margin_rows(labels, layers[-1].shape[0], centre)
        if self.method == "ibp":
            return _interval_margins(layers, weights, centre, radius, others)
        member = _Member(layers, weights, centre, radius)
        for index, layer in enumerate(layers[:-1]):
            if index > 0 and self.method == "crown":
                member.bounds.append(self._neurons(member, index))
            else:
                c, r = member.after_relu()
                c, r = _interval(layer, weights[index], c, r)
                member.bounds.append((c - r, c + r))
        return self._margins(member, others)

    def _neurons(self, member: _Member, index: int) -> tuple[Tensor, Tensor]:
        """(l, u) of every neuron of a layer by its own backward pass, (B, *shape) each."""
        layer, size = self.net.layers[index], self._images([index])
        windows = Windows((layer.shape[1], layer.shape[2])) if layer.is_conv else Windows((1, 1))
        eye = torch.eye(layer.shape[0], dtype=member.centre.dtype, device=member.centre.device)
        rows = torch.cat([eye, -eye])[None, None, :, :, None, None]
        parts = []
        for start in range(0, len(member.centre), size):
            upper = member.bound(rows, windows, index=index, images=slice(start, start + size))
            parts.append(upper.reshape(len(upper), windows.count, 2, layer.shape[0]).permute(2, 0, 3, 1))
        upper, negated = torch.cat(parts, 1).unflatten(3, layer.shape[1:] or (1,)).reshape(2, -1, *layer.shape)
        return -negated, upper

    def _margins(self, member: _Member, others: Tensor) -> Tensor:
        last = len(self.net.layers) - 1
        size = self._images([last])
        parts = []
        for start in range(0, len(others), size):
            images = slice(start, start + size)
            rows = -others[images, None, :, :, None, None]
            parts.append(-member.bound(rows, Windows((1, 1)), index=last, images=images))
        return torch.cat(parts)

    def _images(self, passes: list[int]) -> int:
        largest = max(self.net.image_numbers(index) for index in passes)
        return max(1, self.chunk_bytes // (4 * largest))


@dataclass
class _Member:
    """One member's weights, the boxes, and the bounds found so far."""

    layers: list[PlainLayer]
    weights: Weights
    centre: Tensor
    radius: Tensor
    bounds: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def after_relu(self) -> tuple[Tensor, Tensor]:
        """Centre and radius of what the next layer sees."""
        if not self.bounds:
            return self.centre, self.radius
        lower, upper = (bound.clamp(min=0) for bound in self.bounds[-1])
        return (lower + upper) / 2, (upper - lower) / 2

    def bound(self, rows: Tensor, windows: Windows, *, index: int, images: slice) -> Tensor:
        """Upper bounds of linear functions of layer ``index``'s output.

        Args:
            rows: their coefficients, (B | 1, positions | 1, S, C, h, w); (.., C, 1, 1) on flat values.
            windows: where the coefficients lie.
            index: the layer.
            images: which images.

        Returns:
            (B, positions S).
        """
        a, constant = rows, rows.new_zeros(1, 1, 1)
        for place in range(index, -1, -1):
            layer, (weight, bias) = self.layers[place], self.weights[place]
            if bias is not None:
                constant = constant + torch.einsum("nlschw,c->nls", a, bias)
            a, windows = layer.backwards(a, weight, windows)
            if windows.count > 1 and windows.area >= math.prod(layer.source[1:]):
                a, constant = spread(a, windows, layer.source), constant.expand(len(a), windows.count, -1)
                constant, windows = constant.flatten(1)[:, None], Windows.whole(layer.source)
            if place > 0:
                a, added = self._relu(a, windows, place=place, images=images)
                constant = constant + added
        constant = constant + _dot(a, view(_maps(self.centre[images], self.layers[0].source), windows))
        constant = constant + _dot(a.abs(), view(_maps(self.radius[images], self.layers[0].source), windows))
        return constant.flatten(1)

    def _relu(self, a: Tensor, windows: Windows, *, place: int, images: slice) -> tuple[Tensor, Tensor]:
        """Through the ReLUs before layer ``place``: positive coefficients take the upper line, negative the lower."""
        source = self.layers[place].source
        lower, upper = (_maps(bound[images], source) for bound in self.bounds[place - 1])
        above, below = upper.clamp(min=0), lower.clamp(max=0)
        slope = above / (above - below).clamp(min=torch.finfo(above.dtype).tiny)
        upper_slope, offset = view(slope, windows), view(-slope * below, windows)
        lower_slope = view((upper + lower > 0).to(a.dtype), windows)
        positive, negative = a.clamp(min=0), a.clamp(max=0)
        return positive * upper_slope[:, :, None] + negative * lower_slope[:, :, None], _dot(positive, offset)


def _dot(a: Tensor, weight: Tensor) -> Tensor:
    """Sums of (n, l, S, C, h, w) times (n, l, C, h, w) over C, h, w: (n, l, S)."""
    return torch.einsum("nlschw,nlchw->nls", a, weight)


def _maps(values: Tensor, source: tuple[int, int, int]) -> Tensor:
    return values.reshape(-1, *source)


def _interval(layer: PlainLayer, weights: tuple[Tensor, Tensor | None], c: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius of a layer's output."""
    weight, bias = weights
    return layer.forwards(c, weight, bias), layer.forwards(r, weight.abs(), None)


def _interval_margins(layers: list[PlainLayer], weights: Weights, c: Tensor, r: Tensor, others: Tensor) -> Tensor:
    """Intervals through the network, the margins folded into the last layer."""
    for layer, each in zip(layers[:-1], weights[:-1], strict=True):
        c, r = _interval(layer, each, c, r)
        lower, upper = (c - r).clamp(min=0), (c + r).clamp(min=0)
        c, r = (lower + upper) / 2, (upper - lower) / 2
    weight, bias = weights[-1]
    folded = others @ weight  # (B, K - 1, F)
    margins = (folded @ c.flatten(1)[:, :, None] - folded.abs() @ r.flatten(1)[:, :, None])[:, :, 0]
    return margins if bias is None else margins + others @ bias


def _margin_rows(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """e_y - e_j for the classes j other than y in ascending order, (B, K - 1, K)."""
    eye = torch.eye(classes, dtype=like.dtype, device=like.device)
    every = eye[labels][:, None] - eye[None]
    return every[labels[:, None] != torch.arange(classes, device=labels.device)].reshape(len(labels), -1, classes)
