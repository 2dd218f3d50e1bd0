"""The lines of a layer of ReLUs in one pass over its bounds."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from gls_es.kernels.library import level, library

RULES = ("adaptive", "same", "zero", "one")
"""Lower slopes of unstable ReLUs, by the names of ``gls_es.bounds.relaxation``."""

FEW = 16
"""Pixels of a map with fewer are not worth a run of their own."""

_NUMBERS = ("members", "images", "channels", "pixels", "rule")
_STRIDES = ("base_member", "base_image", "base_channel", "base_pixel")


class _Bounds(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in ("lower", "upper", "base")),
        *((name, ctypes.c_int64) for name in _STRIDES),
        ("out", ctypes.c_void_p * 4),
    )


def lines(lower: Tensor, upper: Tensor, base: Tensor | None, rule: str) -> tuple[Tensor, ...]:
    """Mean, half, mean_offset and half_offset of the lines that enclose ReLU on [lower, upper].

    Args:
        lower: (G, B, *shape), on the CPU, float32 or float64.
        upper: the same shape.
        base: the constant part of the pre-activation, broadcastable to that shape; None is zero.
        rule: one of :data:`RULES`.

    Returns:
        Four tensors of that shape.
    """
    found = library()
    assert found is not None
    lower, upper = lower.contiguous(), upper.contiguous()
    out = torch.empty(4, *lower.shape, dtype=lower.dtype)
    members, images, *shape = lower.shape
    channels, pixels = (1, math.prod(shape)) if len(shape) <= 1 else (shape[0], math.prod(shape[1:]))
    if pixels < FEW:  # one run of numbers, with the base written out, instead of many short ones
        base = base if base is None else base.expand(-1, -1, *shape).flatten(2)
        channels, pixels, shape = 1, channels * pixels, [channels * pixels]
    address, strides = None, [0] * 4
    if base is not None:
        base = base.expand(-1, -1, *shape).reshape(*base.shape[:2], channels, pixels)
        base = base if base.stride(3) <= 1 else base.contiguous()
        address, strides = base.data_ptr(), [base.stride(i) if base.shape[i] > 1 else 0 for i in range(4)]
    places = (ctypes.c_void_p * 4)(*(part.data_ptr() for part in out))
    sizes = (members, images, channels, pixels, RULES.index(rule))
    record = _Bounds(*sizes, lower.data_ptr(), upper.data_ptr(), address, *strides, places)
    found.gls_lines(ctypes.byref(record), level(), int(lower.dtype == torch.float64))
    return tuple(out)
