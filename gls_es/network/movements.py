"""Operators that move values, repeat them, or leave some out: what they do is asked of themselves.

Run on the numbers of its input's places, such an operator tells which place every output copies, and run on zeros what
it writes where it copies none (padding). So there is no second description of what ``roll`` or ``pixel_shuffle`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gls_es.network.operators import ParameterMisused, Refused
from gls_es.network.translation import Activation, Translation, Weight

_PART = 1 << 20


def moved(
    t: Translation,
    where: str,
    out: Tensor,
    operator: Callable[..., Tensor],
    *values: Any,
    fixed: Sequence[Any] = (),
    filling: Callable[..., Tensor] | None = None,
) -> int:
    """Add the selection that an operator makes of values.

    Args:
        t: the graph in the making.
        where: the step, for messages.
        out: what the operator produced.
        operator: the operator as a function of ``values``.
        values: activations, and constants that it may put between them.
        fixed: further arguments, which say how values are moved and must be constants.
        filling: the operator with the number that it puts where it copies nothing; None: it does so by itself.
    """
    if any(isinstance(value, Weight) for value in (*values, *fixed)):
        raise ParameterMisused
    if any(isinstance(value, Activation) for value in fixed):
        raise Refused("where it moves values depends on values")
    sources = [value for value in values if isinstance(value, Activation)]
    if not sources:
        raise Refused("its first argument must be an activation")
    shape = t.shape_of(out)
    numbered, start = [], 1
    total = sum(t.size(source) for source in sources)
    for value in values:
        if isinstance(value, Activation):
            numbered.append(_numbers(t, value, start, total))
            start += t.size(value)
        else:
            numbered.append(torch.zeros(value.shape, dtype=torch.float64, device=t.device))
    found = operator(*numbered).round().long().reshape(t.batch, -1).cpu()
    for other in _as_executed(operator, numbered):
        if not torch.equal(found, other.reshape(found.shape)):
            raise Refused("PyTorch copies other values in float32 than in float64; use a whole number as its factor")
    if found.shape[1] * t.batch != out.numel():
        raise Refused("it makes values of another shape than expected")
    images = torch.div(found - 1, total, rounding_mode="floor")
    copied = found > 0
    if bool((copied & (images != torch.arange(t.batch)[:, None])).any()):
        raise Refused("it mixes the images of a batch")
    index = torch.where(copied, (found - 1).remainder(total), -1)
    if not torch.equal(index, index[:1].expand_as(index)):
        raise Refused("it moves values differently in the images of a batch")
    fill = _fill(t, filling or operator, values, index)
    return t.selected(where, [source.node for source in sources], index[0], shape, fill)


def _as_executed(operator: Callable[..., Tensor], numbered: Sequence[Tensor]) -> Iterator[Tensor]:
    """The same numbers where the operator runs in float32, and on images that have their channels last in memory.

    Numbers go in two parts of 20 bits, which float32 holds.
    """
    layouts = [torch.contiguous_format]
    if all(value.dim() == 4 for value in numbered):
        layouts.append(torch.channels_last)
    parts = [*zip(*((value // _PART, value % _PART) for value in numbered), strict=True)]
    for layout in layouts:
        given = [[part.float().contiguous(memory_format=layout) for part in values] for values in parts]
        high, low = (operator(*values).round().long().cpu() for values in given)
        yield high * _PART + low


def _numbers(t: Translation, source: Activation, start: int, total: int) -> Tensor:
    """The places of a node's values, from ``start``, those of the next image ``total`` further: (B, *shape)."""
    places = torch.arange(t.size(source), dtype=torch.float64) + start
    images = torch.arange(t.batch, dtype=torch.float64)[:, None] * total
    return (images + places).reshape(t.batch, *t.shape(source)).to(t.device)


def _fill(t: Translation, operator: Callable[..., Tensor], values: Sequence[Any], index: Tensor) -> Tensor | None:
    """What the operator writes where it copies nothing, (n,) float64; None for zeros."""
    if bool((index >= 0).all()):
        return None
    like = torch.zeros((), dtype=t.dtype, device=t.device)
    given = [like.new_zeros(t.batch, *t.shape(v)) if isinstance(v, Activation) else v for v in values]
    found = operator(*given).detach().double().reshape(t.batch, -1).cpu()
    if bool(found.isnan().any()):
        raise Refused("its constants hold NaN, and no bound is about such a network")
    if not torch.equal(found, found[:1].expand_as(found)):
        raise Refused("its constants differ between the images of a batch")
    return found[0] if bool(found[0].any()) else None


# -- one translation an operator


def _cat(t: Translation, where: str, out: Tensor, *, tensors: Any, dim: int) -> int:
    return moved(t, where, out, lambda *parts: torch.cat(parts, dim), *tensors)


def _stack(t: Translation, where: str, out: Tensor, *, tensors: Any, dim: int) -> int:
    return moved(t, where, out, lambda *parts: torch.stack(parts, dim), *tensors)


def _pad(t: Translation, where: str, out: Tensor, *, x: Any, pad: Any, value: Any) -> int:
    def padded(values: Tensor, number: Any = 0) -> Tensor:
        return torch.constant_pad_nd(values, pad, number)

    return moved(t, where, out, padded, x, filling=lambda values: padded(values, value))


def _from_padding(operator: Callable[..., Tensor]) -> Callable[..., int]:
    """The translation of a padding that repeats or reflects values."""

    def translate(t: Translation, where: str, out: Tensor, *, x: Any, padding: Any) -> int:
        return moved(t, where, out, lambda values: operator(values, padding), x)

    return translate


def _from_scales(operator: Callable[..., Tensor], *names: str) -> Callable[..., int]:
    """The translation of nearest neighbours at another size."""

    def translate(
        t: Translation,
        where: str,
        out: Tensor,
        *,
        x: Any,
        output_size: Any,
        scales: Any = None,
        scales_h: Any = None,
        scales_w: Any = None,
    ) -> int:
        given = dict(zip(("scales", "scales_h", "scales_w"), (scales, scales_h, scales_w), strict=True))
        options = {name: given[name] for name in names}
        return moved(t, where, out, lambda values: operator(values, output_size, **options), x)

    return translate


def _index_select(t: Translation, where: str, out: Tensor, *, x: Any, dim: int, index: Any) -> int:
    return moved(t, where, out, lambda values: values.index_select(dim, index), x, fixed=[index])


def _index(t: Translation, where: str, out: Tensor, *, x: Any, indices: Any) -> int:
    return moved(t, where, out, lambda values: torch.ops.aten.index.Tensor(values, indices), x, fixed=indices)


def _gather(t: Translation, where: str, out: Tensor, *, x: Any, dim: int, index: Any) -> int:
    return moved(t, where, out, lambda values: values.gather(dim, index), x, fixed=[index])


def _where(t: Translation, where: str, out: Tensor, *, condition: Any, x: Any, other: Any) -> int:
    return moved(t, where, out, lambda left, right: torch.where(condition, left, right), x, other, fixed=[condition])


def _masked_fill(t: Translation, where: str, out: Tensor, *, x: Any, mask: Any, value: Any) -> int:
    number = t.constant(value).item()
    filled = torch.full((), number, dtype=t.dtype, device=t.device)
    return moved(t, where, out, lambda left, right: torch.where(mask, right, left), x, filled, fixed=[mask])


def _flip(t: Translation, where: str, out: Tensor, *, x: Any, dims: Any) -> int:
    return moved(t, where, out, lambda values: values.flip(dims), x)


def _roll(t: Translation, where: str, out: Tensor, *, x: Any, shifts: Any, dims: Any) -> int:
    return moved(t, where, out, lambda values: values.roll(shifts, dims), x)


def _repeat(t: Translation, where: str, out: Tensor, *, x: Any, repeats: Any) -> int:
    return moved(t, where, out, lambda values: values.repeat(repeats), x)


def _pixel_shuffle(t: Translation, where: str, out: Tensor, *, x: Any, upscale_factor: int) -> int:
    return moved(t, where, out, lambda values: torch.pixel_shuffle(values, upscale_factor), x)


def _pixel_unshuffle(t: Translation, where: str, out: Tensor, *, x: Any, downscale_factor: int) -> int:
    return moved(t, where, out, lambda values: torch.pixel_unshuffle(values, downscale_factor), x)


def _channel_shuffle(t: Translation, where: str, out: Tensor, *, x: Any, groups: int) -> int:
    return moved(t, where, out, lambda values: torch.channel_shuffle(values, groups), x)


def _im2col(
    t: Translation, where: str, out: Tensor, *, x: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> int:
    return moved(t, where, out, lambda v: torch.ops.aten.im2col(v, kernel_size, dilation, padding, stride), x)


def _tril(t: Translation, where: str, out: Tensor, *, x: Any, diagonal: int) -> int:
    return moved(t, where, out, lambda values: values.tril(diagonal), x)


def _triu(t: Translation, where: str, out: Tensor, *, x: Any, diagonal: int) -> int:
    return moved(t, where, out, lambda values: values.triu(diagonal), x)


_ATEN = torch.ops.aten
MOVEMENTS: dict[str, Callable[..., int]] = {
    "aten::cat": _cat,
    "aten::cat.out": _cat,
    "aten::stack": _stack,
    "aten::constant_pad_nd": _pad,
    "aten::index_select": _index_select,
    "aten::index.Tensor": _index,
    "aten::gather": _gather,
    "aten::where.self": _where,
    "aten::masked_fill.Scalar": _masked_fill,
    "aten::masked_fill_.Scalar": _masked_fill,
    "aten::flip": _flip,
    "aten::roll": _roll,
    "aten::repeat": _repeat,
    "aten::pixel_shuffle": _pixel_shuffle,
    "aten::pixel_unshuffle": _pixel_unshuffle,
    "aten::channel_shuffle": _channel_shuffle,
    "aten::native_channel_shuffle": _channel_shuffle,
    "aten::im2col": _im2col,
    "aten::tril": _tril,
    "aten::triu": _triu,
    "aten::upsample_nearest1d": _from_scales(_ATEN.upsample_nearest1d, "scales"),
    "aten::upsample_nearest2d": _from_scales(_ATEN.upsample_nearest2d, "scales_h", "scales_w"),
    "aten::_upsample_nearest_exact1d": _from_scales(_ATEN._upsample_nearest_exact1d, "scales"),
    "aten::_upsample_nearest_exact2d": _from_scales(_ATEN._upsample_nearest_exact2d, "scales_h", "scales_w"),
    **{
        f"aten::{kind}_pad{axes}d": _from_padding(getattr(_ATEN, f"{kind}_pad{axes}d"))
        for kind in ("reflection", "replication")
        for axes in (1, 2, 3)
    },
}
"""Translations by an operator's name and overload."""
