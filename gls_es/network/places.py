"""Which value of its inputs each value of a node copies: an index, and its adjoint, which adds what copies receive.

Data that moves (slices, permutations, padding, repetition, concatenation) is exact: every output is one input, or a
constant. Read backwards, coefficients on copies are added up where they came from. Both directions are gathers, along
a table that the index alone decides; they are each other's derivative.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_GATHERS = 8
"""Values that are copied at most so often get their coefficients by gathers; more copies are added by index."""


class Places:
    """An index into the flat values of one or several nodes, one after the other.

    Args:
        index: (n,), int64: the place that output i copies; -1 for one that copies nothing and is 0.
        sizes: how many values each input has.

    Attributes:
        index: likewise, on the CPU.
        sizes: likewise.
        copies: how often the value that is copied most often is.
    """

    def __init__(self, index: Tensor, sizes: Sequence[int]) -> None:
        self.index = index.detach().cpu().contiguous()
        self.sizes = tuple(sizes)
        kept = self.index[self.index >= 0]
        self.copies = int(torch.bincount(kept, minlength=1).max()) if len(kept) else 0
        self._tables: dict[tuple[str, torch.device], Tensor] = {}
        self._channels: dict[tuple[tuple[int, ...], ...], Places | None] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places) and self.sizes == other.sizes and torch.equal(self.index, other.index)

    def __hash__(self) -> int:
        return hash((self.sizes, tuple(self.index[:16].tolist()), len(self.index)))

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.index.numpy().tobytes()).hexdigest()  # networks are told apart by their nodes
        return f"Places({len(self.index)} of {self.sizes}, {digest[:32]})"

    def __getstate__(self) -> tuple[Tensor, tuple[int, ...], int]:
        return self.index, self.sizes, self.copies

    def __setstate__(self, state: tuple[Tensor, tuple[int, ...], int]) -> None:
        self.index, self.sizes, self.copies = state
        self._tables, self._channels = {}, {}

    @property
    def total(self) -> int:
        """How many values there are to copy from."""
        return sum(self.sizes)

    @property
    def complete(self) -> bool:
        """Whether every output is a copy, and none a constant."""
        return bool((self.index >= 0).all())

    @property
    def same(self) -> bool:
        """Whether the outputs are the inputs, in their order."""
        return len(self.index) == self.total and torch.equal(self.index, torch.arange(self.total))

    def select(self, values: Tensor) -> Tensor:
        """(..., total) -> (..., n): every output's value, 0 where it copies nothing."""
        found: Tensor = _Gathered.apply(values, self, False)  # type: ignore[no-untyped-call]
        return found

    def spread(self, coefficients: Tensor) -> Tensor:
        """(..., n) -> (..., total): the adjoint of :meth:`select`, sums over the copies of every value."""
        found: Tensor = _Gathered.apply(coefficients, self, True)  # type: ignore[no-untyped-call]
        return found

    def then(self, later: Tensor) -> Tensor:
        """The index of copies of the outputs: ``later`` (m,) into them, -1 for none."""
        return torch.where(later >= 0, self.index[later.clamp_min(0)], later)

    def by_channels(self, *shapes: tuple[int, ...]) -> Places | None:
        """The same as an index of channels, where every output channel is a whole one of an input, or nothing.

        Args:
            shapes: of the output, then of the inputs.
        """
        if shapes not in self._channels:
            self._channels[shapes] = self._of_channels(*shapes)
        return self._channels[shapes]

    def _of_channels(self, shape: tuple[int, ...], *sources: tuple[int, ...]) -> Places | None:
        if any(len(one) != 3 or one[1:] != shape[1:] for one in (shape, *sources)):
            return None
        area = shape[1] * shape[2]
        index = self.index.view(shape[0], area)
        first = index[:, :1]
        whole = torch.where(first >= 0, first + torch.arange(area), -1)
        if not torch.equal(index, whole) or bool((first.clamp_min(0) % area).any()):
            return None
        channels = torch.where(first >= 0, torch.div(first, area, rounding_mode="floor"), -1)
        return Places(channels[:, 0], [one[0] for one in sources])

    def _gathered(self, values: Tensor, *, back: bool) -> Tensor:
        if back and self.copies > MOST_GATHERS:
            return self._added(values)
        table = self._table("back" if back else "forth", values.device)
        if back or not self.complete:
            values = F.pad(values, (0, 1))  # the zero that places without a copy read
        found = values.index_select(-1, table[0])
        for more in table[1:]:
            found = found + values.index_select(-1, more)
        return found

    def _added(self, values: Tensor) -> Tensor:
        kept = self._table("kept", values.device)[0]
        rows = values.index_select(-1, kept).movedim(-1, 0)
        index = self._table("forth", values.device)[0].index_select(0, kept)
        return rows.new_zeros(self.total, *rows.shape[1:]).index_add(0, index, rows).movedim(0, -1)

    def _table(self, name: str, device: torch.device) -> Tensor:
        """Rows of places to gather from: one forth, as many back as there are copies; and the outputs that copy."""
        if (name, device) not in self._tables:
            made = {"forth": self._forth, "back": self._back, "kept": self._kept}[name]
            with torch.inference_mode(False):
                self._tables[name, device] = made().to(device)
        return self._tables[name, device]

    def _forth(self) -> Tensor:
        return torch.where(self.index >= 0, self.index, self.total)[None]

    def _kept(self) -> Tensor:
        return (self.index >= 0).nonzero().T

    def _back(self) -> Tensor:
        """(copies, total): the outputs that copy a value, and n, which stands for none."""
        table = torch.full((max(self.copies, 1), self.total), len(self.index))
        kept = self._kept()[0]
        order = self.index[kept].argsort(stable=True)
        places = self.index[kept][order]
        first = torch.ones_like(places, dtype=torch.bool)
        first[1:] = places[1:] != places[:-1]
        starts = first.nonzero()[:, 0]
        rank = torch.arange(len(places)) - starts[first.cumsum(0) - 1] if len(places) else places
        table[rank, places] = kept[order]
        return table


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Places, back: bool) -> Tensor:
        ctx.places, ctx.back = places, back
        return places._gathered(values, back=back)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        found: Tensor = _Gathered.apply(gradients[0], ctx.places, not ctx.back)  # type: ignore[no-untyped-call]
        return found, None, None
