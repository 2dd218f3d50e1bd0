"""Sound bounds on a network's values over boxes, for a whole population of weight vectors at once.

One relaxation a file, registered in :data:`METHODS` by name. All of them are differentiable in the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gls_es.basics.checks import class_labels
from gls_es.basics.modes import under_autocast, usable
from gls_es.basics.suggestions import named
from gls_es.bounds.affine import AFFINE
from gls_es.bounds.best import BEST
from gls_es.bounds.box import Box
from gls_es.bounds.compiled import runs
from gls_es.bounds.crown import CROWN, CROWN_ONE, CROWN_SAME, CROWN_ZERO
from gls_es.bounds.crown_ibp import CROWN_IBP
from gls_es.bounds.deepz import DEEPZ
from gls_es.bounds.hbox import HBOX
from gls_es.bounds.ibp import IBP
from gls_es.bounds.intersect import CROWN_INTERSECT
from gls_es.bounds.method import Method
from gls_es.bounds.mixed import mixed_crown_ibp
from gls_es.bounds.perturbation import NORMS, Perturbation, perturbation_of
from gls_es.bounds.plan import Plan
from gls_es.bounds.precision import full_precision
from gls_es.bounds.pushed import pushable
from gls_es.bounds.query import Query, entry_box
from gls_es.bounds.unstable import CROWN_UNSTABLE
from gls_es.errors import ConfigError
from gls_es.network import Network

__all__ = [
    "METHODS",
    "NORMS",
    "Box",
    "Method",
    "Perturbation",
    "Plan",
    "box_margins",
    "box_preactivations",
    "entry_box",
    "margins",
    "method_named",
    "mixed_crown_ibp",
    "perturbation_of",
    "preactivations",
]

_ALL = (
    IBP,
    HBOX,
    AFFINE,
    DEEPZ,
    CROWN_IBP,
    CROWN,
    CROWN_SAME,
    CROWN_ZERO,
    CROWN_ONE,
    CROWN_INTERSECT,
    CROWN_UNSTABLE,
    BEST,
)

METHODS: dict[str, Method] = {m.name: m for m in _ALL}
"""Every relaxation by the name that ``method=`` takes."""
METHODS["deeppoly"] = CROWN


def method_named(name: str) -> Method:
    """The relaxation called ``name``.

    Raises:
        ConfigError: there is none; the message lists the names.
    """
    return named(METHODS, name, "unknown method")


def margins(
    net: Network,
    lower: Tensor,
    upper: Tensor,
    labels: Tensor,
    method: str = "crown",
    params: Tensor | None = None,
    *,
    plan: Plan | None = None,
) -> Tensor:
    """Sound lower bounds of the margins f_y - f_j over boxes, in exact arithmetic (rounding is not covered).

    Args:
        net: the network.
        lower: the boxes' lower ends, (B, *input_shape), floating; dtype and device are those of the result.
        upper: their upper ends, the same shape, elementwise at least ``lower``.
        labels: the classes y, (B,), integers, a tensor or a list.
        method: a name from :data:`METHODS`.
        params: the members' weights, (P, L); None for the network's own (P = 1). Gradients flow into them.
        plan: chunk sizes; None for what suits the device.

    Returns:
        (P, B, K - 1), j running over the classes other than y in ascending order.

    Raises:
        ConfigError: boxes, labels, weights or method that make no sense, or ``torch.autocast`` is on.

    """
    method_named(method)
    lower, upper = _checked_box(net, lower, upper, plan)
    labels = class_labels(labels, count=len(lower), num_classes=net.num_classes, device=lower.device)
    box = entry_box(net, Box.between(lower, upper))
    return box_margins(net, box, labels, net.members(params, lower), method=method, plan=plan)


def box_margins(
    net: Network, box: Box, labels: Tensor, params: Tensor, *, method: str | Method = "crown", plan: Plan | None = None
) -> Tensor:
    """:func:`margins` without its checks, for a box that :func:`entry_box` made once for many calls.

    Args:
        net: the network.
        box: B boxes at the network's entry.
        labels: (B,), int64, on the box' device.
        params: (P, L), of the box' dtype and device.
        method: a name from :data:`METHODS`, or a relaxation that has none.
        plan: chunk sizes; None for what suits the device.

    Returns:
        (P, B, K - 1).
    """
    chosen = method if isinstance(method, Method) else method_named(method)
    plan = Plan.default(params.device.type) if plan is None else plan
    _check_round(box, chosen)
    parts = []
    with full_precision(params.device, tf32=plan.tf32):
        untracked = _untracked_on_cpu(params, box)
        direct = chosen.direct if plan.direct and not box.round and untracked else None
        passes = chosen.passes
        if direct is not None:
            passes = "push" if pushable(net.graph, box) else "sweep"
        elif passes == "all" and untracked and runs(net.graph, box):
            passes = "compiled"
        for query in _queries(net, box, params, passes, plan):
            if direct is not None:
                parts.append(query.for_all(direct(query, labels)))
                continue
            chosen.preactivations(query)
            parts.append(query.for_all(chosen.margins(query, labels)))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def preactivations(
    net: Network,
    lower: Tensor,
    upper: Tensor,
    method: str = "crown",
    params: Tensor | None = None,
    *,
    plan: Plan | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Sound bounds (l, u) of every ReLU's input, in topological order, (P, B, *shape) each.

    Arguments and errors are those of :func:`margins`.
    """
    method_named(method)
    lower, upper = _checked_box(net, lower, upper, plan)
    box = entry_box(net, Box.between(lower, upper))
    return box_preactivations(net, box, net.members(params, lower), method=method, plan=plan)


def box_preactivations(
    net: Network, box: Box, params: Tensor, *, method: str = "crown", plan: Plan | None = None
) -> list[tuple[Tensor, Tensor]]:
    """:func:`preactivations` without its checks, for a box that :func:`entry_box` made once for many calls.

    Arguments are those of :func:`box_margins`.
    """
    chosen = method_named(method)
    _check_round(box, chosen)
    plan = Plan.default(params.device.type) if plan is None else plan
    parts: list[list[tuple[Tensor, Tensor]]] = []
    with full_precision(params.device, tf32=plan.tf32):
        for query in _queries(net, box, params, chosen.passes, plan):
            chosen.preactivations(query)
            parts.append([query.bounds[relu] for relu in query.relus])
    return [(torch.cat([p[i][0] for p in parts]), torch.cat([p[i][1] for p in parts])) for i in range(len(parts[0]))]


def _check_round(box: Box, method: Method) -> None:
    """Refuse an L2 ball where the relaxation would bound the box around it, or not even that.

    Raises:
        ConfigError: it would.
    """
    if box.round and not method.balls:
        known = ", ".join(name for name, one in METHODS.items() if one.balls)
        raise ConfigError(f"method {method.name!r} has no bounds on L2 balls; choose one of {known}.")


def _queries(net: Network, box: Box, params: Tensor, passes: str, plan: Plan) -> Iterator[Query]:
    """The queries that cover the population, a group of members each."""
    size = plan.group(net.graph, len(box), passes, params.element_size())
    for start in range(0, len(params), size):
        yield Query.ask(net, params[start : start + size], box.members(start, start + size), plan=plan)


def _untracked_on_cpu(params: Tensor, box: Box) -> bool:
    """Whether no gradient can be asked for, and quick ways are worth their while: accelerators want large pieces."""
    tracked = torch.is_grad_enabled() and any(v.requires_grad for v in (params, box.centre, box.radius))
    return params.device.type == "cpu" and not tracked


def _checked_box(net: Network, lower: Tensor, upper: Tensor, plan: Plan | None) -> tuple[Tensor, Tensor]:
    """The ends of the boxes, copied if autograd would not take them."""
    if not isinstance(net, Network):
        raise ConfigError(f"bounds are those of a gls_es.Network(module, input_shape), not of {type(net).__name__}.")
    if not (plan is None or isinstance(plan, Plan)):
        raise ConfigError(f"plan must be a gls_es.bounds.Plan, not {type(plan).__name__}.")
    if under_autocast():
        raise ConfigError("bounds would be rounded under torch.autocast; compute them outside the autocast block.")
    net.check_images(lower)
    net.check_images(upper)
    if lower.shape != upper.shape or lower.dtype != upper.dtype or lower.device != upper.device:
        raise ConfigError(
            f"lower {tuple(lower.shape)} {lower.dtype} and upper {tuple(upper.shape)} {upper.dtype} must agree in "
            f"shape, dtype and device."
        )
    if lower.dtype not in (torch.float32, torch.float64):
        raise ConfigError(
            f"bounds are computed in float32 or float64, not in {lower.dtype}; call float() on the boxes."
        )
    if len(lower) == 0:
        raise ConfigError("there is no image to bound.")
    if not bool((lower <= upper).all() & torch.isfinite(lower).all() & torch.isfinite(upper).all()):
        raise ConfigError("lower must be at most upper everywhere, and both must be finite.")
    return usable(lower), usable(upper)
