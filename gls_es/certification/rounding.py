"""Bounds that stay true in floating point: of the network as it is executed, and of their own computation.

The network is executed in some format with unit roundoff u, its sums in any order, products and sums fused or not. A
computed affine value then differs from W z + b by at most γ_(n+8) (|W| |z| + |b|), γ_k = k u / (1 - k u), for n summed
products (Higham 2002, section 3.1); the 8 covers a constant's own rounding, and more are charged where a layer has more
steps (``network.steps``). Every affine node gets this error as a radius E: intervals are widened by it, and a backward
pass with coefficients A on the node adds |A| E. So the bounds hold for whatever the executor computes, and, errors
being outward, for real arithmetic.

Products and steps that underflow err by at most the smallest normal number each, also where results that small are
flushed to zero, times the factors that are applied to them later on. What might overflow on the way, before a factor
shrinks it, gets an infinite error, which no verdict survives.

The bounds themselves are computed in float64. A rounding there, in a product with coefficients A or in the bounds' own
sums, changes the result by at most a few F 2^-53 times |A| (|W| |z| + |b|), with F the largest number of terms in any
sum: the same expression, so E is simply enlarged by that factor. At a ReLU coefficients may cancel (a lower slope near
zero, a multiplier of a split), so there the same factor of everything that was added moves its lines apart. Numbers of
the executor that float64's range holds only just (``_OWN``) are treated as if they overflowed or underflowed, which
leaves room for the bounds' own products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.bounds import Plan, method_named
from gls_es.bounds.box import Box
from gls_es.bounds.query import Query, entry_box
from gls_es.errors import ConfigError
from gls_es.network import Network
from gls_es.network.graph import Graph
from gls_es.network.steps import Steps

_DOUBLE = torch.finfo(torch.float64)
_OWN = (2.0**-300, 2.0**300)
"""The smallest and the largest number of networks in float64 or exact arithmetic that have bounds here."""


@dataclass(frozen=True)
class ExecutionModel:
    """How rounding may change an affine value: u, the smallest normal and the largest number of a format.

    Attributes:
        roundoff: u of the executor's format; 0 for real arithmetic.
        tiny: the smallest normal number, the error of a product or step that underflows.
        largest: values whose partial sums may exceed this overflow.
        guard: relative error of computing the bounds.
    """

    roundoff: float
    tiny: float
    largest: float
    guard: float

    @classmethod
    def named(cls, execution: str, graph: Graph) -> ExecutionModel:
        """The model of "float32", "float64" or "real" for bounds on ``graph``.

        Raises:
            ConfigError: another name.
        """
        terms = max(math.prod(node.shape) for node in graph.nodes) + len(graph.nodes)
        guard = 16 * (terms + 64) * _DOUBLE.eps / 2
        if execution == "real":
            return cls(0.0, *_OWN, guard)
        if execution == "float64":
            return cls(_DOUBLE.eps / 2, *_OWN, guard)
        if execution != "float32":
            raise ConfigError(f"unknown execution {execution!r}: choose float32, float64 or real.")
        kind = torch.finfo(torch.float32)
        return cls(kind.eps / 2, kind.tiny, kind.max, guard)

    def error(self, size: Tensor, terms: int, steps: Steps | None = None, inputs: Tensor | None = None) -> Tensor:
        """The largest error of values that sum products, see :class:`~gls_es.bounds.query.RoundingError`."""
        roundings = (terms + 8 + (0 if steps is None else steps.roundings)) * self.roundoff
        if roundings >= 0.5:
            return torch.full_like(size, math.inf)
        relative = (roundings / (1 - roundings) + self.guard) * (1 + 1e-6)
        error = size * relative + self._underflow(terms, steps, _largest(inputs, size))
        return torch.where(size <= self.largest / 4, error, math.inf)

    def without_roundings(self) -> ExecutionModel:
        """The same format with exact numbers in between its smallest and its largest one."""
        return replace(self, roundoff=0.0, guard=0.0)

    def flushed(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The box with 0 where the executor may take an input for 0, since it is smaller than any normal number."""
        above, below = (lower > 0) & (lower < self.tiny), (upper < 0) & (upper > -self.tiny)
        return lower.masked_fill(above, 0.0), upper.masked_fill(below, 0.0)

    def _underflow(self, terms: int, steps: Steps | None, largest: Tensor | float) -> Tensor | float:
        """The absolute error of sums that read inputs up to ``largest``; infinite where a step might overflow.

        A product may err by a smallest number, so may the sum that takes it up, and the factor that is a weight.
        """
        lost = (2 + largest) * terms
        if steps is None:
            return (lost + 8) * self.tiny
        peak = steps.peak[0] * largest + steps.peak[1]
        error = ((lost + 2) * steps.factor + steps.losses + peak) * self.tiny
        safe = torch.as_tensor(peak <= self.largest / 4)
        if steps.variance is not None:  # eps and the sum are rounded relative to it
            safe = safe & (steps.variance >= self.tiny * 2**24) & (steps.variance <= self.largest / 4)
        return torch.where(safe, error, math.inf)


def _largest(inputs: Tensor | None, size: Tensor) -> Tensor | float:
    """The largest of each image's inputs (G | 1, B, ...), to be broadcast against ``size``."""
    if inputs is None:
        return 0.0
    return inputs.flatten(2).amax(2).reshape(*inputs.shape[:2], *[1] * (size.dim() - 2))


def outward_ball(images: Tensor, eps: float | Tensor, *, clip: bool = True) -> tuple[Tensor, Tensor]:
    """The smallest convenient float64 box that contains the real ball {z : |z - x| <= eps}.

    Args:
        images: the centres x, (B, *shape), float32 or float64, taken as exact numbers.
        eps: the radius in pixel units, >= 0. It is rounded up by one step, so that ``8 / 255`` stands for the fraction.
            A tensor, float64, broadcasting to an image, holds each pixel's; where it is 0 nothing is widened.
        clip: intersect with [0, 1].

    Returns:
        ``(lower, upper)``, float64, each of the images' shape.
    """
    x = images.double()
    if isinstance(eps, Tensor):
        radii = torch.nextafter(eps.to(x), torch.full_like(eps.to(x), math.inf))
        down, up = (torch.nextafter(x + s * radii, torch.full_like(x, s * math.inf)) for s in (-1, 1))
        still = eps.to(x).expand_as(x) == 0
        lower, upper = torch.where(still, x, down), torch.where(still, x, up)
    elif eps == 0:
        lower, upper = x, x
    else:
        radius = math.nextafter(eps, math.inf)
        lower = torch.nextafter(x - radius, torch.full_like(x, -math.inf))
        upper = torch.nextafter(x + radius, torch.full_like(x, math.inf))
    return (lower.clamp(min=0.0), upper.clamp(max=1.0)) if clip else (lower, upper)


def sound_margins(
    net: Network,
    lower: Tensor,
    upper: Tensor,
    labels: Tensor,
    method: str,
    *,
    execution: str = "float32",
    plan: Plan | None = None,
) -> Tensor:
    """Lower bounds of the margins that hold for the executed network, whatever the order of its sums.

    Args:
        net: the network; its own weights are bounded.
        lower: the box, (B, *input_shape), float64, see :func:`outward_ball`.
        upper: the same shape.
        labels: (B,), int64.
        method: a name from ``gls_es.bounds.METHODS``.
        execution: "float32" or "float64" for the network executed in that format with direct sums in any order
            (no TF32, no Winograd or FFT convolutions); "real" for exact arithmetic.
        plan: chunk sizes; None for what suits the device.

    Returns:
        (B, K - 1), float64, of f_y - f_j with j ascending. NaN and infinities mean that nothing is known: certify
        only where ``isfinite(m) & (m > 0)``.

    Raises:
        ConfigError: unknown method or execution.
    """
    chosen = method_named(method)
    with torch.no_grad():
        query = sound_query(net, lower, upper, execution=execution, plan=plan)
        chosen.preactivations(query)
        return chosen.margins(query, labels)[0]


@torch.no_grad()
def sound_query(
    net: Network,
    lower: Tensor,
    upper: Tensor,
    *,
    execution: str,
    plan: Plan | None = None,
    model: ExecutionModel | None = None,
) -> Query:
    """The query whose bounds hold for the executed network; arguments and errors are those of :func:`sound_margins`.

    With ``model`` it charges other errors than those of ``execution``.
    """
    model = ExecutionModel.named(execution, net.graph) if model is None else model
    net = net if execution == "float32" else net.wide()
    weights = net.parameter_vector()
    if execution == "float32":
        weights = weights.float()  # what the executor holds
    box = entry_box(net, _outward_box(*model.flushed(lower, upper)), model.error)
    return Query.ask(net, weights.to(lower)[None], box, plan=plan, rounding=model.error, guard=model.guard)


def _outward_box(lower: Tensor, upper: Tensor) -> Box:
    """Centre and radius that contain [lower, upper] despite the rounding of both."""
    centre = (lower + upper) / 2
    radius = torch.maximum(upper - centre, centre - lower)
    radius = torch.where(upper > lower, radius * (1 + 4 * _DOUBLE.eps) + _DOUBLE.tiny, radius)
    return Box(centre[None], radius[None])
