"""What each ATen operator becomes in the graph: one small function each, and one table.

A translation takes the running :class:`~gls_es.network.translation.Translation`, the step's name for messages and the
value that the operator produced; then, by name, every argument that it looks at. It adds nodes, and returns the index
of the one that stands for the value. It raises :class:`~gls_es.network.operators.Refused` with the reason where the
step has no bounds; arguments that it does not name must have their defaults. To support another operator, write its
translation and add it to the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gls_es.network import activation_translations, endings, max_pools
from gls_es.network.graph import Add, BatchNorm, Conv, Linear, Pool, ReLU, Slice, Window
from gls_es.network.movements import MOVEMENTS
from gls_es.network.operators import ParameterMisused, Refused
from gls_es.network.rearranged import convolved_back, dense_rows, summed
from gls_es.network.translation import Activation, Translation, Weight

Pair = tuple[int, int]


def _pair(values: Any) -> Pair:
    values = [values] if isinstance(values, int) else list(values)
    return (int(values[0]), int(values[-1]))


# -- layers


def _mm(t: Translation, where: str, out: Tensor, *, x: Any, mat2: Any) -> int:
    return _dense(t, where, out, x, mat2, None)


def _addmm(t: Translation, where: str, out: Tensor, *, x: Any, mat1: Any, mat2: Any) -> int:
    return _dense(t, where, out, mat1, mat2, x)


def _dense(t: Translation, where: str, out: Tensor, x: Any, weight: Any, bias: Any) -> int:
    source = t.activation(x)
    turned = t.stored(weight)
    place = t.weight(weight, transposed=not turned)
    shift = t.bias(bias, place.shape[1 if turned else 0])
    if len(t.shape(source)) == 2:
        return dense_rows(t, where, source, place, shift, turned=turned)
    return t.add(Linear(where, (source.node,), t.shape_of(out), place, shift, turned=turned))


def _convolution(
    t: Translation,
    where: str,
    out: Tensor,
    *,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> int:
    source = t.activation(x)
    place = t.weight(weight)
    if len(place.shape) not in (3, 4) or len(t.shape(source)) != len(place.shape) - 1:
        raise Refused("only convolutions over one axis or two axes are bounded; use nn.Conv1d or nn.Conv2d")
    kernel = _over_two(place.shape[2:], 1)
    window = Window(kernel, _over_two(stride, 1), _over_two(padding, 0), _over_two(dilation, 1), groups)
    place = Slice(place.start, place.stop, (*place.shape[:2], *kernel))
    shift = t.bias(bias, out.shape[1])
    wide = _wide(t, where, source)
    if transposed:
        made = convolved_back(t, where, wide, place, shift, window, _over_two(output_padding, 0))
    else:
        sizes = (1, *t.shape_of(out)[1:])[-2:]
        made = t.add(Conv(where, (wide,), (out.shape[1], *sizes), place, shift, window))
    return t.reshaped(made, t.shape_of(out), where)


def _over_two(sizes: Any, line: int) -> Pair:
    """Sizes along two axes; where there is one axis, the other is that of a map of one line."""
    return (line, int(sizes[0])) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))


def _wide(t: Translation, where: str, source: Activation) -> int:
    """An activation over one axis as a map of one line, so that convolutions over two axes are all there are."""
    shape = t.shape(source)
    return t.reshaped(source.node, (shape[0], 1, shape[1]), where) if len(shape) == 2 else source.node


def _batch_norm(
    t: Translation,
    where: str,
    out: Tensor,
    *,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
    training: bool = False,
) -> int:
    del momentum  # only training moves the statistics
    source = t.activation(x)
    if training or running_mean is None or running_var is None:
        raise Refused("BatchNorm without running statistics has no fixed function; use track_running_stats=True")
    names = [t.storages.buffer_name(b) or "" for b in (running_mean, running_var) if isinstance(b, Tensor)]
    path = names[0].removesuffix("running_mean") if names else ""
    if not path.endswith(".") or names != [f"{path}running_mean", f"{path}running_var"]:
        raise Refused("its statistics are no buffers running_mean and running_var of one module; use nn.BatchNorm2d")
    size = out.shape[1]
    norm = BatchNorm(path.removesuffix("."), eps, t.bias(weight, size), t.bias(bias, size))
    return t.normed(where, source, out, norm)


def _cudnn_batch_norm(
    t: Translation,
    where: str,
    out: Tensor,
    *,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    exponential_average_factor: float,
    epsilon: float,
) -> int:
    return _batch_norm(
        t, where, out, x=x, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var,
        momentum=exponential_average_factor, eps=epsilon, training=training,
    )  # fmt: skip


def _avg_pool(
    t: Translation,
    where: str,
    out: Tensor,
    *,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> int:
    source = t.activation(x)
    kernel, padding = _pair(kernel_size), _pair(padding)
    if len(t.shape(source)) != 3:
        raise Refused("average pooling has bounds over channels of images only")
    if ceil_mode:
        raise Refused("ceil_mode=True has no bounds here; use ceil_mode=False")
    if padding != (0, 0) and not count_include_pad and divisor_override is None:
        raise Refused("padding with count_include_pad=False has no bounds here; use count_include_pad=True")
    window = Window(kernel, _pair(stride) if stride else kernel, padding, (1, 1), out.shape[1])
    return t.append(Pool, where, source, out, window, divisor_override or math.prod(kernel))


def _adaptive_pool(t: Translation, where: str, out: Tensor, *, x: Any, output_size: Any) -> int:
    source, size = t.activation(x), _pair(output_size)
    before = t.shape(source)
    if len(before) != 3 or before[1] % size[0] or before[2] % size[1]:
        raise Refused(f"adaptive pooling of {before} to {t.shape_of(out)} has uneven windows; use nn.AvgPool2d")
    kernel = (before[1] // size[0], before[2] // size[1])
    return t.append(Pool, where, source, out, Window(kernel, kernel, (0, 0), (1, 1), before[0]), math.prod(kernel))


def _mean(t: Translation, where: str, out: Tensor, *, x: Any, dim: Any, keepdim: bool) -> int:
    del keepdim  # the shape of what was produced tells it
    return summed(t, where, out, t.activation(x), dim, mean=True)


def _total(t: Translation, where: str, out: Tensor, *, x: Any, dim: Any, keepdim: bool) -> int:
    del keepdim
    return summed(t, where, out, t.activation(x), dim, mean=False)


def _relu(t: Translation, where: str, out: Tensor, *, x: Any) -> int:
    return t.append(ReLU, where, t.activation(x), out)


# -- arithmetic


def _sum(t: Translation, where: str, out: Tensor, left: Any, right: Any, factor: Any) -> int:
    """``left + factor * right``."""
    alpha = t.constant(factor)
    if isinstance(left, Activation) and isinstance(right, Activation):
        left, right = (t.expanded(where, value, t.shape_of(out)) for value in (left, right))
        if factor != 1:
            right = Activation(t.scale(where, right, out, alpha))
        return t.add(Add(where, (left.node, right.node), t.shape_of(out)))
    if isinstance(left, Weight) or isinstance(right, Weight):
        return _learned_sum(t, where, out, left, right, factor)
    if isinstance(left, Activation):
        constant = t.constant(right)
        return t.scale(where, left, out, torch.ones_like(constant), alpha * constant)
    constant = t.constant(left)
    return t.scale(where, t.activation(right), out, alpha.expand_as(constant), constant)


def _learned_sum(t: Translation, where: str, out: Tensor, left: Any, right: Any, factor: Any) -> int:
    """The same with a parameter, for the factors 1 and -1."""
    if factor not in (1, -1) or (isinstance(left, Weight) and isinstance(right, Weight)):
        raise ParameterMisused
    minus = t.constant(-1.0)
    if isinstance(left, Weight):  # p + f z
        source = t.activation(right)
        source = source if factor == 1 else Activation(t.scale(where, source, out, minus))
        return t.learned(where, source, out, shift=left)
    source = t.activation(left)  # z + f p = f (f z + p)
    if factor == 1:
        return t.learned(where, source, out, shift=right)
    negated = t.learned(where, Activation(t.scale(where, source, out, minus)), out, shift=right)
    return t.scale(where, Activation(negated), out, minus)


def _add(t: Translation, where: str, out: Tensor, *, x: Any, other: Any, alpha: Any) -> int:
    return _sum(t, where, out, x, other, alpha)


def _sub(t: Translation, where: str, out: Tensor, *, x: Any, other: Any, alpha: Any) -> int:
    return _sum(t, where, out, x, other, -alpha)


def _rsub(t: Translation, where: str, out: Tensor, *, x: Any, other: Any, alpha: Any) -> int:
    return _sum(t, where, out, other, x, -alpha)


def _mul(t: Translation, where: str, out: Tensor, *, x: Any, other: Any) -> int:
    if isinstance(x, Activation) and isinstance(other, Activation):
        return activation_translations.product(t, where, out, x, other)
    source, factor = (x, other) if isinstance(x, Activation) else (other, x)
    if isinstance(factor, Weight):
        return t.learned(where, t.activation(source), out, scale=factor)
    factor = t.constant(factor)
    return t.scale(where, t.activation(source), out, factor)


def _div(t: Translation, where: str, out: Tensor, *, x: Any, other: Any) -> int:
    if not isinstance(x, Activation) or isinstance(other, Activation):
        raise Refused("an activation may be divided by a constant only")
    return t.scale(where, x, out, 1 / t.constant(other))


def _neg(t: Translation, where: str, out: Tensor, *, x: Any) -> int:
    return t.scale(where, t.activation(x), out, t.constant(-1.0))


def _clone(t: Translation, where: str, out: Tensor, *, x: Any, memory_format: Any = None) -> int:
    """The same values in new memory, whatever its strides."""
    del where, out, memory_format
    return t.activation(x).node


def _cast(
    t: Translation,
    where: str,
    out: Tensor,
    *,
    x: Any,
    dtype: Any,
    layout: Any,
    device: Any,
    pin_memory: Any,
    non_blocking: Any,
    memory_format: Any,
) -> int:
    """A copy to where it is, in the format that it has; another format was refused before."""
    del where, dtype, pin_memory, non_blocking, memory_format
    if layout not in (None, torch.strided) or (device is not None and out.device != t.device):
        raise Refused("it moves an activation to another layout or device")
    return t.activation(x).node


def _with_variants(name: str, overload: str) -> tuple[str, ...]:
    """An operator, its step in place and its form with ``out=``."""
    dot = f".{overload}" if overload else ""
    return f"aten::{name}{dot}", f"aten::{name}_{dot}", f"aten::{name}.{_OUT.get((name, overload), 'out')}"


_OUT = {("add", "Scalar"): "Scalar_out", ("sub", "Scalar"): "Scalar_out", ("mul", "Scalar"): "Scalar_out"}
_OUT |= {("div", "Scalar"): "Scalar_out", ("rsub", "Tensor"): "Tensor_out", ("rsub", "Scalar"): "Scalar_out"}

OPERATORS: dict[str, Callable[..., int]] = {
    "aten::mm": _mm,
    "aten::mm.out": _mm,
    "aten::addmm": _addmm,
    "aten::addmm.out": _addmm,
    "aten::convolution": _convolution,
    "aten::native_batch_norm": _batch_norm,
    "aten::_native_batch_norm_legit_no_training": _batch_norm,
    "aten::cudnn_batch_norm": _cudnn_batch_norm,
    "aten::avg_pool2d": _avg_pool,
    "aten::_adaptive_avg_pool2d": _adaptive_pool,
    "aten::mean.dim": _mean,
    "aten::sum.dim_IntList": _total,
    "aten::clone": _clone,
    "aten::_to_copy": _cast,
    **MOVEMENTS,
}
_ARITHMETIC: dict[str, Callable[..., int]] = {"add": _add, "sub": _sub, "rsub": _rsub, "mul": _mul, "div": _div}
_UNARY: dict[str, Callable[..., int]] = {"relu": _relu, "neg": _neg}
for _name, _translate in _ARITHMETIC.items():
    for _overload in ("Tensor", "Scalar"):
        OPERATORS |= dict.fromkeys(_with_variants(_name, _overload), _translate)
for _name, _translate in _UNARY.items():
    OPERATORS |= dict.fromkeys(_with_variants(_name, ""), _translate)
OPERATORS |= activation_translations.OPERATORS | endings.OPERATORS | max_pools.OPERATORS
"""Translations by an operator's name and overload. What PyTorch does not have does no harm here."""
