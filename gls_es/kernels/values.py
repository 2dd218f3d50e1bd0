"""Tensors as the compiled library is told of them: an address, and strides of the leading axes."""

from __future__ import annotations

import ctypes

from torch import Tensor

from gls_es.basics.modes import usable


class Values(ctypes.Structure):
    """``gls_values`` of ``chain.h``."""

    _fields_ = (("data", ctypes.c_void_p), ("member", ctypes.c_int64), ("image", ctypes.c_int64))


PAIR = ctypes.c_int64 * 2


def values_of(value: Tensor | None, leading: int, held: list[object]) -> Values:
    """A tensor's address; a copy, if one is needed, is put into ``held``, to live until the library has run.

    Args:
        value: (G | 1, B | 1, ...) or, with one leading axis, (G | 1, ...); None gives no address.
        leading: how many of the axes are strided; the rest must lie in order, or is copied.
        held: what is kept alive.
    """
    if value is not None:
        value = usable(value)
    if value is not None and not value[(0,) * leading].is_contiguous():
        value = value.contiguous()
    if value is not None:
        held.append(value)
    return place_of(value, leading)


def place_of(value: Tensor | None, leading: int) -> Values:
    """A tensor's address with strides of its first ``leading`` axes (members, images); the rest is contiguous."""
    if value is None:
        return Values()
    strides = [value.stride(i) if i < leading and value.shape[i] > 1 else 0 for i in (0, 1)]
    return Values(value.data_ptr(), *strides)
