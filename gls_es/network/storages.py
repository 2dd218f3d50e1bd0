"""What every piece of memory holds while a module runs: which node's values, a parameter, or a constant.

Tensors are names for memory. An operation that returns an alias (view, Identity, Dropout in eval mode) gives a second
name for the same storage, and a step in place changes what all names see. So contents are kept per storage, and a
tensor is understood by how it lies in its storage: the whole of it, in the order of the value that was put there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gls_es.network.graph import Slice

Kind = Literal["activation", "parameter", "constant", "empty", "opaque"]
"""Values of a node; a parameter or what was computed from one; numbers that depend on neither; memory that nothing was
written to yet; and what a refused step has left."""


@dataclass(frozen=True)
class Order:
    """How a tensor's entries lie in its storage, as it was when this was noted: tensors can be given other strides.

    Attributes:
        offset: where it begins.
        numel: its entries.
        axes: sizes and strides of the axes that have more than one entry.
        contiguous: whether it is row-major without gaps.
        dtype: its type; None for lazily negated or conjugated numbers, which are like no others.
    """

    offset: int
    numel: int
    axes: tuple[tuple[int, int], ...]
    contiguous: bool
    dtype: torch.dtype | None

    @classmethod
    def of(cls, tensor: Tensor) -> Order:
        """The order of a tensor's entries."""
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        axes = tuple((int(size), int(step)) for size, step in sizes if size > 1)
        dtype = None if tensor.is_neg() or tensor.is_conj() else tensor.dtype
        return cls(int(tensor.storage_offset()), tensor.numel(), axes, tensor.is_contiguous(), dtype)

    def same(self, other: Order | None) -> bool:
        """Whether both list the same places of one storage, in the same row-major order."""
        if other is None or self.dtype is None or self.dtype != other.dtype:
            return False
        if self.offset != other.offset or self.numel != other.numel:
            return False
        return self.axes == other.axes or (self.contiguous and other.contiguous)


@dataclass(frozen=True)
class Content:
    """What a storage holds.

    Attributes:
        kind: see :data:`Kind`.
        fresh: whether the running forward pass made the storage, so that writing to it changes no state.
        order: of the tensor that the value was put there as.
        node: index of the node whose values these are, for an activation.
        parameters: names and places of the parameters that lie in it.
    """

    kind: Kind
    fresh: bool
    order: Order | None = None
    node: int | None = None
    parameters: tuple[tuple[str, Order, Slice], ...] = ()


class Storages:
    """The contents of all storages that a forward pass has met; they stay alive, so that no place is used again."""

    def __init__(self) -> None:
        self._contents: dict[int, Content] = {}
        self._alive: dict[int, Any] = {}
        self._met: dict[int, Any] = {}
        self._views: dict[int, tuple[Tensor, str]] = {}
        self._buffers: dict[tuple[int, Order], str] = {}

    def hold(self, module: nn.Module) -> int:
        """Note a module's buffers, and where its parameters lie in the parameter vector; the vector's length."""
        self._buffers = {(b.untyped_storage()._cdata, Order.of(b)): name for name, b in module.named_buffers()}
        start = 0
        for name, parameter in module.named_parameters():
            place = Slice(start, start + parameter.numel(), tuple(parameter.shape))
            start = place.stop
            known = self.of(parameter).parameters
            self.put(parameter, "parameter", parameters=(*known, (name, Order.of(parameter), place)))
        return start

    def old(self, tensor: Tensor) -> bool:
        """Whether nothing that was seen made the tensor's memory, which stays alive from now on."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._contents or storage.nbytes() == 0:
            return False
        self._met[storage.data_ptr()] = storage
        return True

    def constants(self) -> dict[int, Any]:
        """The memory that held constants, by its address: whoever keeps this keeps it alive."""
        made = [s for place, s in self._alive.items() if self._contents[place].kind == "constant"]
        return {**{storage.data_ptr(): storage for storage in made}, **self._met}

    def of(self, tensor: Tensor) -> Content:
        """What the tensor's storage holds; a storage that was never met is a constant from before the pass."""
        return self._contents.get(tensor.untyped_storage()._cdata, _OLD)

    def put(
        self,
        tensor: Tensor,
        kind: Kind,
        *,
        fresh: bool = False,
        node: int | None = None,
        parameters: tuple[tuple[str, Order, Slice], ...] = (),
    ) -> None:
        """Note what the tensor's storage holds from now on."""
        storage = tensor.untyped_storage()
        self._alive[storage._cdata] = storage
        self._contents[storage._cdata] = Content(kind, fresh, Order.of(tensor), node, parameters)

    def whole(self, tensor: Tensor) -> bool:
        """Whether a tensor lists all of its storage, in the order of the value that was put there if there is one."""
        order = Order.of(tensor)
        if order.same(self.of(tensor).order):
            return True
        bytes_of_all = order.numel * tensor.element_size()
        return order.contiguous and tensor.untyped_storage().nbytes() == bytes_of_all

    def note_view(self, tensor: Tensor, step: str) -> None:
        """Remember which step made a view, for messages."""
        self._views[id(tensor)] = (tensor, step)

    def view_step(self, tensor: Tensor) -> str | None:
        """The step that made a view."""
        return self._views.get(id(tensor), (tensor, None))[1]

    def buffer_name(self, tensor: Tensor) -> str | None:
        """The module's name for a tensor that is one of its buffers."""
        return self._buffers.get((tensor.untyped_storage()._cdata, Order.of(tensor)))

    def place_of(self, tensor: Tensor) -> Slice | None:
        """Where in the parameter vector a tensor's numbers lie, if it is a whole parameter in row-major order."""
        order = Order.of(tensor)
        for _, known, place in self.of(tensor).parameters:
            if order.same(known):
                return Slice(place.start, place.stop, tuple(tensor.shape))
        return None


_OLD = Content("constant", fresh=False)
