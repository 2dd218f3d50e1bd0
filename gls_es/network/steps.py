"""What a module computes, step by step, where the graph has one affine map: the facts that errors of execution need.

A graph folds a frozen BatchNorm into the layer before it, and a divisor into a pool's kernel. PyTorch computes a sum
first, and subtracts, multiplies or divides afterwards. The sum can overflow where the folded one does not, the factors
enlarge what was lost in it, and factors that the module computes itself are rounded, too.

All numbers are per output: they broadcast against a node's value, (G, N, *shape).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.network.graph import Window


@dataclass(frozen=True)
class Steps:
    """The steps of one affine map.

    Attributes:
        roundings: how many relative roundings a term of the result meets besides those of a sum of products.
        peak: numbers a and b, >= 0: no number on the way, factors included, is larger than a |z| + b, with |z| the
            largest input.
        factor: what multiplies errors of the sum.
        losses: the result's absolute error if every step behind the sum underflows, in smallest normal numbers.
        variance: what a root is taken of that is divided by; None for nothing.
    """

    roundings: int
    peak: tuple[Tensor | float, Tensor | float]
    factor: Tensor | float = 1.0
    losses: Tensor | float = 8.0
    variance: Tensor | None = None


def constant_steps(scale: Tensor) -> Steps:
    """The steps of a multiplication by rounded constants, or of a division by their reciprocals."""
    return Steps(0, (0.0, scale.abs()))


def pool_steps(window: Window) -> Steps:
    """The steps of an average: a sum, and a division by its size, by height and width, or by a rounded reciprocal."""
    return Steps(4, (float(math.prod(window.kernel)), 0.0))


@dataclass(frozen=True)
class Norm:
    """A frozen BatchNorm: ``scale * z + shift`` and the numbers that both are made of, (G | 1, C) each.

    Attributes:
        scale: γ / √(var + eps).
        shift: β - mean · scale.
        mean: the statistic.
        variance: var + eps.
        gamma: γ, None for 1.
        beta: β, None for 0.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor
    gamma: Tensor | None
    beta: Tensor | None

    @property
    def size(self) -> Tensor:
        """|β| + |mean · scale|."""
        size = (self.mean * self.scale).abs()
        return size if self.beta is None else size + self.beta.abs()

    def steps(self, spatial: int, weight: Tensor | None = None, bias: Tensor | None = None) -> Steps:
        """The steps of Σ w z + b, normalised as z · scale + shift or as γ ((z - mean) / √(var + eps)) + β.

        Folded into the weights, as runtimes of ONNX files do it, they are no more.

        Args:
            spatial: how many axes the value has behind its channels.
            weight: w, (G, C, ...); None for a BatchNorm by itself.
            bias: b, (G, C).
        """
        inverse, scale = self.variance.rsqrt(), self.scale.abs()
        gamma = torch.ones_like(inverse) if self.gamma is None else self.gamma.abs()
        most = torch.maximum(inverse, gamma).clamp_min(1.0)  # by how much a result on the way exceeds the sum
        slope = most if weight is None else most * weight.flatten(2).abs().sum(2)
        offset = self.mean.abs() if bias is None else self.mean.abs() + bias.abs()
        weights = scale if weight is None else scale * weight.flatten(2).abs().amax(2).clamp_min(1.0)
        numbers = (
            slope,
            offset * most + weights,
            scale.clamp_min(1.0),
            inverse + gamma + 2 * scale + 8,
            self.variance,
        )
        slope, offset, scale, losses, variance = (per_channel(v, spatial) for v in numbers)
        return Steps(8, (slope, offset), scale, losses, variance)


def per_channel(value: Tensor, spatial: int) -> Tensor:
    """(G, C) -> (G, 1, C, 1, ...), ready to be added to (G, N, C, ...)."""
    return value[:, None].reshape(value.shape[0], 1, value.shape[1], *[1] * spatial)
