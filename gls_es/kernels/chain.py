"""Backward passes as lists of operations on coefficients, run by the compiled library.

The records mirror ``chain.h``. A pass bounds linear functions of one node, for all members, images and positions: it
holds the coefficients of one position for a few functions at a time, so that they stay in the cache and nothing is
written back but the bounds.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gls_es.basics.threads import each
from gls_es.kernels.library import level, library
from gls_es.kernels.values import PAIR, Values, place_of, values_of

KINDS = ("conv", "linear", "scale", "copy", "step", "fill")

WORTH_A_THREAD = 1 << 25
"""How many products a thread is given at least: about a millisecond, while handing them over takes a tenth of one."""

TALLEST = 64
"""The most rows a convolution's kernel may have."""


class _Op(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("kind", "from_", "to", "add", "channels", "height", "width")),
        *((name, ctypes.c_int64) for name in ("out_channels", "out_height", "out_width")),
        *((name, PAIR) for name in ("kernel", "stride", "padding", "dilation")),
        *((name, ctypes.c_int64) for name in ("groups", "relu", "weigh", "store")),
        *((name, Values) for name in ("weight", "mean", "half", "mean_offset", "half_offset", "multiplier", "size")),
        ("laned", ctypes.c_int64),
    )


class _Slopes(ctypes.Structure):
    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("weight_member", ctypes.c_int64),
        ("lines", ctypes.c_void_p * 4),
        ("member", ctypes.c_int64 * 4),
        ("image", ctypes.c_int64 * 4),
    )


_SIZES = ("members", "images", "rows", "columns", "units", "mirrored", "hoisted", "pixel")
_STRIDES = ("out_member", "out_image", "out_unit", "out_position", "out_sign")


class _Pass(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in (*_SIZES, "channels", "height", "width", "slots", "count")),
        ("ops", ctypes.POINTER(_Op)),
        ("start", Values),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in (*_STRIDES, "share", "shares")),
    )


Map = tuple[int, int, int]
"""Channels, height and width; flat values are one row of one channel."""


@dataclass
class Op:
    """One operation; see ``chain.h``.

    Attributes:
        kind: of :data:`KINDS`: "conv" and "linear" are transposed layers, "scale" multiplies elementwise, "copy" passes
            coefficients on, "step" takes them through a ReLU and nothing else, "fill" passes them on with zeros
            where the start sees nothing of the map, since a linear layer reads all of it: without gradients or lanes.
        source: the slot read.
        target: the slot written.
        target_map: the map that slot is a part of.
        source_map: the same for the slot read.
        add: the slot was written before.
        weight: (G | 1, ...) of a layer, or (G | 1, *map) of a scaling.
        window: of a convolution: kernel, stride, padding, dilation (two numbers each), and groups.
        lines: of the ReLU on the way into the slot: mean, half, mean_offset, half_offset, (G | 1, B | 1, *map) each.
        multiplier: what is added to the coefficients after the step, (G | 1, B | 1, *map).
        size: what the bound grows by for each |coefficient| in the slot, (G | 1, B | 1, *map).
        store: whether the coefficients are read again.
        relu: there is a ReLU on the way whose lines a sweep makes, in place of ``lines``.
        laned: the number of that ReLU among the sweep's; at the box any number; -1 where no sweep makes lines.
    """

    kind: str
    source: int
    target: int
    target_map: Map
    source_map: Map
    add: bool = False
    weight: Tensor | None = None
    window: tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], int] | None = None
    lines: tuple[Tensor, ...] | None = None
    multiplier: Tensor | None = None
    size: Tensor | None = None
    store: bool = True
    relu: bool = False
    laned: int = -1


@dataclass
class Chain:
    """A whole pass.

    Attributes:
        ops: the operations, in order; each reads what those before it wrote.
        slots: how many buffers they use; the start is slot 0.
        start: the map of the start.
        units: how many functions there are, of one position if ``positions`` are given.
        positions: rows and columns of start positions, each read by its own functions; None for the whole value.
        rows: the functions' coefficients (G | 1, B | 1, units, *start), or None for unit vectors.
        mirrored: also bound the negatives of the functions.
    """

    ops: list[Op]
    slots: int
    start: Map
    units: int
    positions: tuple[int, int] | None = None
    rows: Tensor | None = None
    mirrored: bool = False
    _held: list[object] = field(default_factory=list)

    def run(self, members: int, images: int) -> Tensor:
        """The functions' upper bounds without constants of the start: (1 or 2 signs, G, B, units, positions)."""
        found = library()
        assert found is not None
        count = 1 if self.positions is None else self.positions[0] * self.positions[1]
        out = self.tensors()[0].new_empty(2 if self.mirrored else 1, members, images, self.units, count)

        def run(record: _Pass) -> int:  # an interrupt leaves threads at work: all they read and write is held here
            return int(found.gls_run(ctypes.byref(record), level(), self._wide(out)))

        self._finish(each(run, self._shares(out)))
        return out

    def slopes(self, gradient: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        """What the derivatives of the bounds, in the shape of :meth:`run`, give for some of :meth:`leaves`.

        Every step through a ReLU must be an operation of its own, and what is weighed with must be stored.
        """
        found = library()
        assert found is not None
        gradient = gradient.contiguous()
        address = ctypes.c_void_p(gradient.data_ptr())

        def back(record: _Pass) -> tuple[int, list[Tensor | None]]:
            sums = [
                torch.zeros(t.shape, dtype=t.dtype) if w else None for t, w in zip(self.leaves(), wanted, strict=True)
            ]
            failed = found.gls_back(ctypes.byref(record), self._places(sums), address, level(), self._wide(gradient))
            return int(failed), sums

        failed, sums = zip(*each(back, self._shares(gradient)), strict=True)
        self._finish(failed)
        return [None if parts[0] is None else sum(parts[1:], start=parts[0]) for parts in zip(*sums, strict=True)]

    def leaves(self) -> list[Tensor]:
        """What :meth:`slopes` can differentiate by: weights and lines, operation by operation."""
        return [t for op in self.ops for t in (op.weight, *(op.lines or ())) if t is not None]

    def constants(self) -> list[Tensor]:
        """What it cannot differentiate by."""
        parts = [t for op in self.ops for t in (op.size, op.multiplier) if t is not None]
        parts += [op.weight for op in self.ops if op.kind == "scale" and op.weight is not None]
        return parts if self.rows is None else [*parts, self.rows]

    def record(self, out: Tensor) -> _Pass:
        """The whole pass for the library; ``out`` has the shape of :meth:`run`."""
        signs, members, images, _, count = out.shape
        positions = (1, 1) if self.positions is None else self.positions
        ops = (_Op * len(self.ops))(*(self._op(op) for op in self.ops))
        flags = (signs - 1, int(self.hoisted()), int(self.positions is not None))
        shape = (members, images, *positions, self.units, *flags)
        strides = (out.stride(1), out.stride(2), count, 1, out.stride(0))
        start = Values() if self.rows is None else values_of(self.rows, 2, self._held)
        return _Pass(*shape, *self.start, self.slots, len(ops), ops, start, out.data_ptr(), *strides, 0, 1)

    def _shares(self, out: Tensor) -> list[_Pass]:
        """The pass, in parts for as many threads as PyTorch uses here, if that is worth it."""
        shares = torch.get_num_threads()
        if shares > 1:  # in training there is one, and nothing to weigh
            work = sum(_products(op) for op in self.ops) * out.numel()
            shares = max(1, min(shares, work // WORTH_A_THREAD))
        records = [self.record(out) for _ in range(shares)]
        for share, record in enumerate(records):
            record.share, record.shares = share, len(records)
        return records

    def _wide(self, bounds: Tensor) -> int:
        return int(bounds.dtype == torch.float64)

    def _finish(self, failed: Sequence[int]) -> None:
        self._held.clear()
        if any(failed):
            raise MemoryError("no memory for the coefficients of a backward pass")

    def _places(self, sums: Sequence[Tensor | None]) -> ctypes.Array[_Slopes]:
        """Where the library adds derivatives, operation by operation, by :meth:`leaves`."""
        each_sum, records = iter(sums), (_Slopes * len(self.ops))()
        for record, op in zip(records, self.ops, strict=True):
            if op.weight is not None:
                place = place_of(next(each_sum), 1)
                record.weight, record.weight_member = place.data, place.member
            for k in range(4 if op.lines else 0):
                place = place_of(next(each_sum), 2)
                record.lines[k], record.member[k], record.image[k] = place.data, place.member, place.image
        return records

    def tensors(self) -> list[Tensor]:
        """Everything that the bounds depend on."""
        parts = [t for op in self.ops for t in (op.size, op.weight, op.multiplier, *(op.lines or ())) if t is not None]
        return parts if self.rows is None else [*parts, self.rows]

    def hoisted(self) -> bool:
        """Whether the first operation is the same for all images and positions."""
        first = self.ops[0]
        others = any(op.target == first.target for op in self.ops[1:])
        return self.rows is None and first.kind in ("conv", "linear") and not others

    def _op(self, op: Op) -> _Op:
        window = op.window or ((0, 0), (0, 0), (0, 0), (0, 0), 0)
        lines = op.lines or (None,) * 4
        return _Op(
            KINDS.index(op.kind),
            op.source,
            op.target,
            int(op.add),
            *op.target_map,
            *op.source_map,
            *(PAIR(*pair) for pair in window[:4]),
            window[4],
            int(op.lines is not None or op.relu),
            int(op.size is not None),
            int(op.store),
            values_of(op.weight, 1, self._held),
            *(values_of(value, 2, self._held) for value in (*lines, op.multiplier, op.size)),
            op.laned,
        )


def _products(op: Op) -> int:
    """How many products an operation takes on whole maps."""
    if op.kind == "linear" and op.weight is not None:
        return op.weight[0].numel()
    if op.kind == "conv" and op.weight is not None:
        return op.weight[0].numel() * math.prod(op.source_map[1:])
    return math.prod(op.target_map)


def fits(op: Op) -> bool:
    """Whether the compiled library has this operation."""
    return op.window is None or op.window[0][0] <= TALLEST
