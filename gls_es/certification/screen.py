"""Guarded bounds in float32 first, and in float64 only for what they leave open and float64 may decide.

The argument of :mod:`~gls_es.certification.rounding` does not depend on the format in which bounds are computed: with
unit roundoff u it charges every affine value and every ReLU's lines 16 (F + 64) u of the absolute values of everything
that was added, F the largest number of terms in any sum. In float32 that is about 1e-3 of them, which most images that
are certified at all can spare. Three things are different, since float32 has a short range:

* The box is rounded outwards to float32. The weights are what the executor holds in float32, so they are exact.
* A product that underflows errs by up to 2^-126, which large factors could make count. So values beyond 2^20 get an
  infinite error, and networks whose coefficients may exceed 2^40 (by the products of the layers' greatest row sums) are
  left to float64. Fewer than 2^40 such errors, each times a coefficient and a value, add up to less than ``SLACK``,
  which is taken off every margin.
* Sums are direct, in any order: TF32, Winograd and reduced precision are switched off.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from gls_es.bounds import Box, Plan, box_margins, entry_box, method_named
from gls_es.bounds.curved import curve_of
from gls_es.bounds.query import Query
from gls_es.certification.execution import direct_sums
from gls_es.certification.rounding import ExecutionModel, sound_margins
from gls_es.network import Network
from gls_es.network.layers import Elementwise, Selection

_SINGLE = torch.finfo(torch.float32)
SCREENED = ("ibp", "crown-ibp", "crown")
"""Relaxations that are tried in float32 first."""
LARGEST_VALUE, LARGEST_COEFFICIENT = 2.0**20, 2.0**40
"""What is beyond is left to float64."""
SLACK = 2.0**-24
"""What underflow may cost a margin, and more."""
NEAR = 1e-3
"""Where plain float32 bounds are below minus this share of the largest one, float64 is not tried."""


@torch.no_grad()
def screened_margins(
    net: Network,
    lower: Tensor,
    upper: Tensor,
    labels: Tensor,
    method: str,
    *,
    execution: str = "float32",
    plan: Plan | None = None,
    screen: bool = True,
) -> Tensor:
    """Lower bounds of the margins that hold for the executed network, like those of :func:`sound_margins`.

    An image has the float32 bounds if all of them are positive or if float64's could hardly be; else float64's.

    Args:
        net: the network; its own weights are bounded.
        lower: the box, (B, *input_shape), float64, see ``rounding.outward_ball``.
        upper: the same shape.
        labels: (B,), int64.
        method: a name from ``gls_es.bounds.METHODS``; only :data:`SCREENED` ones are screened.
        execution: as in :func:`sound_margins`; only bounds for "float32" are screened.
        plan: chunk sizes; None for what suits the device.
        screen: whether to screen at all.

    Returns:
        (B, K - 1), float64; certify only where ``isfinite(m) & (m > 0)``.
    """
    if not (screen and execution == "float32" and method in SCREENED and _held_in_single(net)):
        return sound_margins(net, lower, upper, labels, method, execution=execution, plan=plan)
    box = _single_box(lower, upper)
    with direct_sums(lower.device):
        found = _guarded(net, box, labels, method=method, plan=plan)
        left = ~(found > 0).all(1)
        if left.any():
            left[left.clone()] = _within_reach(
                net, box.selected(left.nonzero()[:, 0]), labels[left], method=method, plan=plan
            )
    if left.any():
        chosen = lower[left], upper[left], labels[left]
        found[left] = sound_margins(net, *chosen, method, execution=execution, plan=plan)
    return found


def single_margins(
    net: Network, lower: Tensor, upper: Tensor, labels: Tensor, method: str, *, plan: Plan | None = None
) -> Tensor:
    """Guarded bounds computed in float32, (B, K - 1), float64; -inf where there are none."""
    return _guarded(net, _single_box(lower, upper), labels, method=method, plan=plan)


def _guarded(net: Network, box: Box, labels: Tensor, *, method: str, plan: Plan | None) -> Tensor:
    chosen = method_named(method)
    model = single_model(net, passes=chosen.passes != "none")
    box = entry_box(net, box, model.error)
    params = net.members(None, box.centre)
    query = Query.ask(net, params, box, plan=plan, rounding=model.error, guard=model.guard)
    nothing = box.centre.new_full((len(labels), net.num_classes - 1), -math.inf, dtype=torch.float64)
    if not (coefficient_bound(query) <= LARGEST_COEFFICIENT and _largest(box) <= LARGEST_VALUE):
        return nothing
    chosen.preactivations(query)
    margins = chosen.margins(query, labels)[0].double() - SLACK
    return torch.where(margins.isfinite(), margins, nothing)


def single_model(net: Network, *, passes: bool) -> ExecutionModel:
    """The errors of the float32 executor, and of computing its bounds in float32.

    Args:
        net: the network.
        passes: whether there are backward passes, which sum over whole nodes; intervals sum what an output reads.
    """
    shapes = [node.shape for node in net.graph.nodes]
    sums = max(map(math.prod, shapes)) if passes else _largest_sum(net)
    guard = 16 * (sums + len(shapes) + 64) * _SINGLE.eps / 2
    return replace(ExecutionModel.named("float32", net.graph), guard=guard, largest=4 * LARGEST_VALUE)


def _largest_sum(net: Network) -> int:
    layers = net.layers(net.parameter_vector()[None])
    return max((layer.terms for layer in layers if layer is not None), default=1)


def coefficient_bound(query: Query) -> float:
    """A bound of every coefficient of a backward pass from a margin: two, times all layers' greatest sums.

    Sums are over a layer's inputs and over its outputs, whichever is greater; a node that two others read doubles.
    """
    bound = 2.0
    for node, layer, readers in zip(query.graph.nodes, query.layers, query.graph.consumers, strict=True):
        bound *= max(1, len(readers))
        f = curve_of(node)
        if f is not None:
            bound *= max(1.0, f.steepest)
        if isinstance(layer, Elementwise):
            bound *= max(1.0, float(layer.scale.abs().max()))
        elif isinstance(layer, Selection):
            bound *= max(1, layer.places.copies)
        elif layer is not None:
            size = layer.absolute.double()
            bound *= max(1.0, float(size.flatten(2).sum(2).max()), float(size.transpose(1, 2).flatten(2).sum(2).max()))
    return bound


def _largest(box: Box) -> float:
    return float((box.centre.abs() + box.radius).max())


def _single_box(lower: Tensor, upper: Tensor) -> Box:
    """The float32 box that contains [lower, upper], and 0 where an executor may flush so small an input to 0."""
    lower = lower.masked_fill((lower > 0) & (lower < _SINGLE.tiny), 0.0)
    upper = upper.masked_fill((upper < 0) & (upper > -_SINGLE.tiny), 0.0)
    centre = ((lower + upper) / 2).float()
    reach = torch.maximum(upper - centre.double(), centre.double() - lower)
    reach = torch.where(reach > 0, reach * (1 + 4 * torch.finfo(torch.float64).eps), reach)
    radius = reach.float()
    radius = torch.where(radius.double() < reach, torch.nextafter(radius, torch.full_like(radius, math.inf)), radius)
    radius = torch.where(reach > 0, radius.clamp_min(_SINGLE.tiny), radius)
    return Box(centre[None], radius[None])


def _held_in_single(net: Network) -> bool:
    """Whether the network's own weights and statistics are float32 numbers."""
    return all(value.dtype == torch.float32 for value in (net.parameter_vector(), *net.buffers().values()))


def _within_reach(net: Network, box: Box, labels: Tensor, *, method: str, plan: Plan | None) -> Tensor:
    """Images (B,) that float32 leaves open and float64 may certify: plain bounds are positive, or nearly so."""
    plain = box_margins(net, entry_box(net, box), labels, net.members(None, box.centre), method=method, plan=plan)[0]
    return ~(plain.amin(1) < -NEAR * plain.abs().amax(1))
