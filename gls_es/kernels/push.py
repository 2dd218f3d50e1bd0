"""Intervals pushed forward by the compiled library: operations on centres and radii, with images as lanes.

The records mirror ``push.h``. Images go through all members in blocks that the cache holds; of a value no more is
written to tensors than what is asked for.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.kernels.chain import Chain, Map
from gls_es.kernels.library import level, library
from gls_es.kernels.lines import RULES
from gls_es.kernels.values import PAIR, Values, values_of

PUSHES = ("conv", "scale", "add", "relu", "copy")

MOST_SLOTS = 64
"""How many slots a sweep may use."""

Pair = tuple[int, int]


class _Push(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("kind", "from_", "other", "to", "parts", "channels", "height", "width")),
        *((name, ctypes.c_int64) for name in ("out_channels", "out_height", "out_width")),
        *((name, PAIR) for name in ("kernel", "stride", "padding", "dilation")),
        ("groups", ctypes.c_int64),
        ("weight", Values),
        ("bias", Values),
        ("out", Values * 2),
        *((name, ctypes.c_int64) for name in ("lines", "rule", "centred")),
        ("base", Values),
    )


class _Sweep(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("members", "images", "slots", "count", "size", "taps", "shared")),
        ("ops", ctypes.POINTER(_Push)),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("centre", Values),
        ("radius", Values),
        ("pass_", ctypes.c_void_p),
        ("lines", ctypes.c_int64),
        ("line_sizes", ctypes.POINTER(ctypes.c_int64)),
        ("room", ctypes.c_void_p),
    )


@dataclass
class Push:
    """One operation; see ``push.h``.

    Attributes:
        kind: of :data:`PUSHES`; "copy" moves nothing and is there for the lines that are made.
        source: the slot read.
        target: the slot written, which may be the same but for "conv".
        source_map: the map of what is read.
        target_map: the map of what is made.
        other: of "add", the other slot read.
        parts: 1 for centres alone, 2 for radii alone, 3 for both; "conv" only.
        weight: (G | 1, O, C / groups, kh, kw) of "conv", (G | 1, *map) of "scale".
        bias: (G | 1, O) of "conv", (G | 1, *map) of "scale".
        window: of "conv": kernel, stride, padding, dilation (two numbers each), and groups.
        out: tensors (G, B, numbers) that take centre and radius of what is made, None for what is not wanted.
        lines: of "relu": its number among those whose lines are made; -1: not so.
        rule: the lower slope of these lines, of :data:`~gls_es.kernels.lines.RULES`.
        base: the constant part of what is read, (G | 1, numbers); None is zero.
        centred: the constant part is the centre.
    """

    kind: str
    source: int
    target: int
    source_map: Map
    target_map: Map
    other: int = 0
    parts: int = 3
    weight: Tensor | None = None
    bias: Tensor | None = None
    window: tuple[Pair, Pair, Pair, Pair, int] | None = None
    out: Sequence[Tensor | None] = ()
    lines: int = -1
    rule: str = "adaptive"
    base: Tensor | None = None
    centred: bool = False


@dataclass
class Sweep:
    """Operations from a box on.

    Attributes:
        ops: in order; each reads what those before it wrote.
        slots: how many numbers each slot holds; slot 0 is the box.
        members: G.
        box: centre and radius, (G | 1, B, *shape) each.
    """

    ops: Sequence[Push]
    slots: Sequence[int]
    members: int
    box: tuple[Tensor, Tensor]

    def run(self, room: Room, chain: Chain | None = None) -> Tensor | None:
        """Push the box through, for all members and images.

        Args:
            room: makes a tensor of so many numbers like another one, for the library to work in.
            chain: a backward pass through the lines that are made on the way, with an image in each lane; its rows are
                (1, B, units, *start), its start the whole value.

        Returns:
            What :meth:`Chain.run` does, (1, G, B, units, 1), if a pass is given.
        """
        found = library()
        assert found is not None
        held: list[object] = []
        like, images = self.box[0], self.box[0].shape[1]
        records = (_Push * len(self.ops))(*(_record(op, held) for op in self.ops))
        taps = max(
            (op.weight[0, 0].numel() for op in self.ops if op.kind == "conv" and op.weight is not None), default=0
        )
        lined = [math.prod(op.source_map) for op in self.ops if op.lines >= 0]
        sizes = (self.members, images, len(self.slots), len(self.ops), self.slots[0], taps)
        shared = int(all(len(value) == 1 for value in self.box))
        places = (values_of(value, 2, held) for value in self.box)
        sweep = _Sweep(*sizes, shared, records, (ctypes.c_int64 * len(self.slots))(*self.slots), *places)
        sweep.lines, sweep.line_sizes = len(lined), (ctypes.c_int64 * len(lined))(*lined)
        out = None
        if chain is not None:
            out = like.new_empty(1, self.members, images, chain.units, 1)
            sweep.pass_ = ctypes.addressof(record := chain.record(out))
            held.append(record)
        wide, each = int(like.dtype == torch.float64), like.element_size()
        work = room(found.gls_push_room(ctypes.byref(sweep), wide) // each + 64 // each, like)
        sweep.room = (work.data_ptr() + 63) // 64 * 64
        if found.gls_push_all(ctypes.byref(sweep), level(), wide):
            raise MemoryError("no memory for the coefficients of a backward pass")
        return out


Room = Callable[[int, Tensor], Tensor]


def _record(op: Push, held: list[object]) -> _Push:
    window = op.window or ((0, 0), (0, 0), (0, 0), (0, 0), 1)
    out = [Values() if value is None else values_of(value, 2, held) for value in op.out]
    return _Push(
        PUSHES.index(op.kind),
        op.source,
        op.other,
        op.target,
        op.parts,
        *op.source_map,
        *op.target_map,
        *(PAIR(*pair) for pair in window[:4]),
        window[4],
        values_of(op.weight, 1, held),
        values_of(op.bias, 1, held),
        (Values * 2)(*out),
        op.lines,
        RULES.index(op.rule),
        int(op.centred),
        values_of(op.base, 1, held),
    )
