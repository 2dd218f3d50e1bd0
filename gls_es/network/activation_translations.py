"""What each ATen activation becomes: a node with its name and constants, or ReLU and affine maps where these say it.

LeakyReLU and PReLU are a z + (1 - a) ReLU(z), and max(z, c) = c + ReLU(z - c): the same lines as the function's own,
and whatever knows ReLU (compiled passes, optimised slopes, branch and bound) knows them. What execution errs is charged
to each of these steps, which is more than the one that is executed: far too much where a single c is far off, so
max(z, c) is a curve there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gls_es.network import graph
from gls_es.network.graph import Add, Constant, Factor, ReLU, Scale
from gls_es.network.operators import ParameterMisused, Refused
from gls_es.network.translation import Activation, Translation, Weight
from gls_es.network.wording import PRODUCT

_LARGEST = 1e30
"""Constants are smaller than this, so that sums with them do not overflow."""
_MOST = torch.finfo(torch.float32).max
_FAR = 64.0
"""Beyond it, c - ReLU(c - z) would round z away, and be charged for it, where min(z, c) hands it on as it is."""


def curved(t: Translation, where: str, source: Activation, out: Tensor, kind: str, *constants: float) -> int:
    """Add the activation ``kind`` with these constants."""
    if t.shape_of(out) != t.shape(source):
        raise Refused(f"it broadcasts an activation of shape {t.shape(source)} to {t.shape_of(out)}")
    if not all(abs(value) < _LARGEST or (kind == "clamp" and _is_end(value)) for value in constants):
        raise Refused(f"its constants {constants} are too large")
    return t.add(graph.Activation(where, (source.node,), t.shape(source), kind, constants))


def _is_end(value: float) -> bool:
    """Whether a number is an end that every format holds, or none at all; sums with it are not made."""
    return abs(value) <= _MOST or math.isinf(value)


def _plain(kind: str) -> Callable[..., int]:
    def translate(t: Translation, where: str, out: Tensor, *, x: Any) -> int:
        return curved(t, where, t.activation(x), out, kind)

    return translate


def _number(value: Any, what: str, *, positive: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(f"its {what} is no finite number")
    if positive and not value > 0:
        raise Refused(f"its {what} {value} is not positive")
    return float(value)


# -- with ReLU


def _mixed(t: Translation, where: str, out: Tensor, source: Activation, factor: Any, rest: Any) -> int:
    """Factor z + rest ReLU(z), each of them a function that scales a node."""
    shape = t.shape_of(out)
    positive = t.append(ReLU, where, source, out)
    return t.add(Add(where, (factor(source), rest(Activation(positive))), shape))


def _leaky_relu(t: Translation, where: str, out: Tensor, *, x: Any, negative_slope: Any) -> int:
    source, slope = t.activation(x), t.constant(_number(negative_slope, "slope"))
    return _mixed(
        t,
        where,
        out,
        source,
        lambda z: t.scale(where, z, out, slope),
        lambda z: t.scale(where, z, out, 1 - slope),
    )


def _prelu(t: Translation, where: str, out: Tensor, *, x: Any, weight: Any) -> int:
    source = t.activation(x)
    if not isinstance(weight, Weight):
        raise Refused("its slope is no parameter; use nn.LeakyReLU")
    tensor = weight.tensor
    channels = t.shape(source)[0]
    flat = tensor.shape[1:2] if tensor.dim() > 1 else tensor.shape
    if tensor.numel() not in (1, channels) or tuple(flat) not in ((1,), (channels,)):
        raise ParameterMisused
    place = t.storages.place_of(tensor.reshape(-1))
    if place is None:
        raise ParameterMisused

    def by(factor: Factor) -> Callable[[Activation], int]:
        return lambda z: t.add(Scale(where, (z.node,), t.shape(z), factor))

    return _mixed(t, where, out, source, by(Factor(place)), by(Factor(place, complement=True)))


def _limited(t: Translation, where: str, out: Tensor, source: Activation, end: Tensor, *, least: bool) -> int:
    """max(z, end) = end + ReLU(z - end), or min(z, end) = end - ReLU(end - z).

    With ends far off, max(z, end) = z + ReLU(end - z), or min(z, end) = z - ReLU(z - end): where the end is out of
    reach, nothing is charged, and intervals, which lose that both z are the same, lose nothing.
    """
    if not bool((end.abs() < _LARGEST).all()):
        raise Refused("its limit is too large, infinite, or no number")
    if not least and not bool(end.any()):
        return t.append(ReLU, where, source, out)
    sign = torch.full_like(end, -1.0 if least else 1.0)
    if bool((end.abs() > _FAR).any()):
        source = t.expanded(where, source, t.shape_of(out))
        gap = Activation(t.scale(where, source, out, -sign, sign * end))
        part = t.scale(where, Activation(t.append(ReLU, where, gap, out)), out, sign)
        return t.add(Add(where, (source.node, part), t.shape_of(out)))
    gap = Activation(t.scale(where, source, out, sign, -sign * end))
    return t.scale(where, Activation(t.append(ReLU, where, gap, out)), out, sign, end)


def _extreme(t: Translation, where: str, out: Tensor, x: Any, other: Any, *, least: bool) -> int:
    """Max or min of an activation and a constant, or of two: max(a, b) = b + ReLU(a - b)."""
    if not (isinstance(x, Activation) and isinstance(other, Activation)):
        source, end = (x, other) if isinstance(x, Activation) else (other, x)
        return _limited(t, where, out, t.activation(source), t.constant(end), least=least)
    if t.shape(x) != t.shape(other):
        raise Refused(f"it compares activations of shapes {t.shape(x)} and {t.shape(other)}")
    return larger(t, where, out, x, other) if not least else _smaller(t, where, out, x, other)


def larger(t: Translation, where: str, out: Tensor, one: Activation, other: Activation) -> int:
    """max(a, b) = b + ReLU(a - b) of two activations of the shape of ``out``."""
    return t.add(Add(where, (other.node, _excess(t, where, out, one, other)), t.shape_of(out)))


def _smaller(t: Translation, where: str, out: Tensor, one: Activation, other: Activation) -> int:
    """min(a, b) = b - ReLU(b - a)."""
    excess = Activation(_excess(t, where, out, other, one))
    return t.add(Add(where, (other.node, t.scale(where, excess, out, t.constant(-1.0))), t.shape_of(out)))


def _excess(t: Translation, where: str, out: Tensor, one: Activation, other: Activation) -> int:
    """ReLU(a - b)."""
    gap = t.add(Add(where, (one.node, t.scale(where, other, out, t.constant(-1.0))), t.shape_of(out)))
    return t.append(ReLU, where, Activation(gap), out)


def _maximum(t: Translation, where: str, out: Tensor, *, x: Any, other: Any) -> int:
    return _extreme(t, where, out, x, other, least=False)


def _minimum(t: Translation, where: str, out: Tensor, *, x: Any, other: Any) -> int:
    return _extreme(t, where, out, x, other, least=True)


def _clamp(t: Translation, where: str, out: Tensor, *, x: Any, min: Any = None, max: Any = None) -> int:
    source = t.activation(x)
    numbers = all(isinstance(end, int | float) for end in (min, max))
    if numbers and math.isfinite(min) and math.isfinite(max):
        return curved(t, where, source, out, "clamp", float(min), float(max)) if min <= max else _refuse_ends(min, max)
    for end, least in ((min, False), (max, True)):
        if end is None or (isinstance(end, float) and end == (math.inf if least else -math.inf)):
            continue
        if isinstance(end, int | float) and _FAR < abs(end) <= _MOST:
            ends = (-math.inf, float(end)) if least else (float(end), math.inf)
            source = Activation(curved(t, where, source, out, "clamp", *ends))
        else:
            source = Activation(_limited(t, where, out, source, t.constant(end), least=least))
    return source.node


def _refuse_ends(least: float, greatest: float) -> int:
    raise Refused(f"its ends {least} and {greatest} leave no room")


def _clamp_min(t: Translation, where: str, out: Tensor, *, x: Any, min: Any) -> int:
    return _clamp(t, where, out, x=x, min=min)


def _clamp_max(t: Translation, where: str, out: Tensor, *, x: Any, max: Any) -> int:
    return _clamp(t, where, out, x=x, max=max)


def _hardtanh(t: Translation, where: str, out: Tensor, *, x: Any, min_val: Any, max_val: Any) -> int:
    return _clamp(t, where, out, x=x, min=float(min_val), max=float(max_val))


def _threshold(t: Translation, where: str, out: Tensor, *, x: Any, threshold: Any, value: Any) -> int:
    if threshold != value:
        raise Refused("it jumps, since its threshold and its value differ")
    return _clamp(t, where, out, x=x, min=threshold)


# -- with constants


def _softplus(t: Translation, where: str, out: Tensor, *, x: Any, beta: Any, threshold: Any) -> int:
    source, rate = t.activation(x), _number(beta, "beta", positive=True)
    return curved(t, where, source, out, "softplus", rate, _number(threshold, "threshold"))


def _elu(t: Translation, where: str, out: Tensor, *, x: Any, alpha: Any, scale: Any, input_scale: Any) -> int:
    source = t.activation(x)
    constants = [
        _number(value, name, positive=True)
        for name, value in (("alpha", alpha), ("scale", scale), ("input_scale", input_scale))
    ]
    return curved(t, where, source, out, "elu", *constants)


def _celu(t: Translation, where: str, out: Tensor, *, x: Any, alpha: Any) -> int:
    source, rate = t.activation(x), _number(alpha, "alpha", positive=True)
    return curved(t, where, source, out, "elu", rate, 1.0, 1.0 / rate)


def _gelu(t: Translation, where: str, out: Tensor, *, x: Any, approximate: Any) -> int:
    return curved(t, where, t.activation(x), out, "gelu" if approximate == "none" else "gelu-tanh")


def _hard_sigmoid(t: Translation, where: str, out: Tensor, *, x: Any) -> int:
    return curved(t, where, t.activation(x), out, "hard-sigmoid", 1 / 6, 0.5)


# -- products


def product(t: Translation, where: str, out: Tensor, x: Activation, other: Activation) -> int:
    """SiLU as z σ(z), and 2 GELU(k z) / k as z (1 + erf(c z)) with k = √2 c; z may be scaled by a number first.

    Raises:
        Refused: another product of activations.
    """
    for scaled, factor in ((x, other), (other, x)):
        z, size = _unscaled(t, scaled)
        node = t.nodes[factor.node]
        if isinstance(node, graph.Activation) and node.kind == "sigmoid" and node.inputs == (z.node,):
            found = curved(t, where, z, out, "silu")
            return found if z == scaled else _times(t, where, out, found, size)
        rate = _rate_of_gelu(t, z, node)
        if rate is not None and 1e-6 < abs(rate) < 1e6:
            inner = Activation(_times(t, where, out, z.node, rate))
            return _times(t, where, out, curved(t, where, inner, out, "gelu"), 2 * size / rate)
    raise Refused(PRODUCT)


def _unscaled(t: Translation, x: Activation) -> tuple[Activation, float]:
    """What an activation is a multiple of, and the factor."""
    numbers = _numbers(t, t.nodes[x.node])
    if numbers is None or numbers[1] != 0.0:
        return x, 1.0
    return Activation(t.nodes[x.node].inputs[0]), numbers[0]


def _times(t: Translation, where: str, out: Tensor, node: int, factor: float) -> int:
    """A multiple of a node. The factor is no number of the executor's, and 1 in one format may be less in another."""
    return t.scale(where, Activation(node), out, t.constant(1.0) * factor)


def _rate_of_gelu(t: Translation, z: Activation, factor: graph.Node) -> float | None:
    """√2 c, if a node is 1 + erf(c z)."""
    bell = t.nodes[factor.inputs[0]] if factor.inputs else factor
    if not (isinstance(bell, graph.Activation) and bell.kind == "erf") or _numbers(t, factor) != (1.0, 1.0):
        return None
    if bell.inputs == (z.node,):
        return math.sqrt(2.0)
    inner = t.nodes[bell.inputs[0]]
    numbers = _numbers(t, inner)
    if inner.inputs != (z.node,) or numbers is None or numbers[1] != 0.0:
        return None
    return math.sqrt(2.0) * numbers[0]


def _numbers(t: Translation, node: graph.Node) -> tuple[float, float] | None:
    """Scale and shift of a constant scaling by single numbers."""
    if not (isinstance(node, Scale) and isinstance(node.source, Constant)):
        return None
    scale, shift = (t.constants[f"{node.source.key}.{part}"] for part in ("scale", "shift"))
    return (float(scale), float(shift)) if scale.numel() == shift.numel() == 1 else None


_TRANSLATIONS: dict[str, Callable[..., int]] = {
    "abs": _plain("abs"),
    "celu": _celu,
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp_min,
    "elu": _elu,
    "erf": _plain("erf"),
    "fmax": _maximum,
    "fmin": _minimum,
    "gelu": _gelu,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": _plain("hard-swish"),
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "maximum": _maximum,
    "minimum": _minimum,
    "sigmoid": _plain("sigmoid"),
    "silu": _plain("silu"),
    "softplus": _softplus,
    "tanh": _plain("tanh"),
    "threshold": _threshold,
}
OPERATORS: dict[str, Callable[..., int]] = {"aten::_prelu_kernel": _prelu}
"""Translations of activations by operator, in every form that PyTorch has."""
for _name, _translate in _TRANSLATIONS.items():
    for _form in (_name, f"{_name}_", f"{_name}.out", f"{_name}.Tensor", f"{_name}_.Tensor", f"{_name}.Tensor_out"):
        OPERATORS[f"aten::{_form}"] = _translate
