"""The graph as far as a forward pass has built it, and what translations of single operators use to build it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gls_es.network.graph import BatchNorm, Constant, Input, Learned, Node, Reshape, Scale, Select, Shape, Slice
from gls_es.network.operators import ParameterMisused, Refused
from gls_es.network.places import Places
from gls_es.network.storages import Storages


@dataclass(frozen=True)
class Activation:
    """An argument that is an activation: its node, which has the shape of the tensor that was given."""

    node: int


@dataclass(frozen=True)
class Weight:
    """An argument that lies in the memory of a parameter, or was computed from one."""

    tensor: Tensor


@dataclass
class Translation:
    """A graph in the making.

    Attributes:
        batch: images in the batch that is run.
        dtype: the format of the pass.
        device: where it runs.
        storages: what memory holds.
        nodes: so far, in topological order.
        constants: what ``Constant`` nodes refer to, float64.
        problems: what stands in the way.
    """

    batch: int
    dtype: torch.dtype
    device: torch.device
    storages: Storages
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _reshaped: dict[tuple[int, Shape], int] = field(default_factory=dict)
    _selected: dict[tuple[tuple[int, ...], Shape, Places], int] = field(default_factory=dict)

    def add(self, node: Node) -> int:
        """Append a node; its index. Values may be left out or moved until none is left, but not computed from none."""
        sizes = [math.prod(shape) for shape in (node.shape, *(self.nodes[source].shape for source in node.inputs))]
        if 0 in sizes and not isinstance(node, Input | Reshape | Select):
            raise Refused("it has no inputs or no outputs, and so no bounds; leave it out")
        self.nodes.append(node)
        return len(self.nodes) - 1

    def append(self, kind: Callable[..., Node], where: str, source: Activation, out: Tensor, *rest: Any) -> int:
        """Add a node of ``kind`` that reads one other."""
        return self.add(kind(where, (source.node,), self.shape_of(out), *rest))

    def shape_of(self, value: Tensor) -> Shape:
        """The shape of one image's value; a single number is one of shape (1,)."""
        if value.dim() == 0 or value.shape[0] != self.batch:
            raise Refused(f"it mixes the images of a batch (a batch of {self.batch} becomes {tuple(value.shape)})")
        return tuple(value.shape[1:]) or (1,)

    def reshaped(self, node: int, shape: Shape, where: str) -> int:
        """The node with the same numbers in another shape."""
        if self.nodes[node].shape == shape:
            return node
        if (node, shape) not in self._reshaped:
            self._reshaped[node, shape] = self.add(Reshape(where, (node,), shape))
        return self._reshaped[node, shape]

    def selected(
        self, where: str, sources: Sequence[int], index: Tensor, shape: Shape, fill: Tensor | None = None
    ) -> int:
        """The node with copies of the flat values of nodes, one after the other; -1 copies none, but takes ``fill``."""
        places = Places(index.flatten(), [math.prod(self.nodes[source].shape) for source in sources])
        if len(sources) == 1 and places.same:
            return self.reshaped(sources[0], shape, where)
        if fill is not None:
            key = f"constant{len(self.nodes)}.fill"
            self.constants[key] = fill.double().to(self.device)
            return self.add(Select(where, tuple(sources), shape, places, key))
        known = (tuple(sources), shape, places)
        if known not in self._selected:
            self._selected[known] = self.add(Select(where, tuple(sources), shape, places))
        return self._selected[known]

    def arranged(self, where: str, source: int, order: Tensor) -> int:
        """The node with a node's values in another order, or several times: ``order`` holds their places."""
        return self.selected(where, [source], order, tuple(order.shape))

    def numbered(self, source: int) -> Tensor:
        """The places of a node's values, in its shape."""
        shape = self.nodes[source].shape
        return torch.arange(math.prod(shape)).reshape(shape)

    def expanded(self, where: str, source: Activation, shape: Shape) -> Activation:
        """An activation repeated along axes where it has size 1."""
        before = self.shape(source)
        if before == shape:
            return source
        if len(before) != len(shape) or any(n not in (1, m) for n, m in zip(before, shape, strict=True)):
            raise Refused(f"it broadcasts an activation of shape {before} to {shape}")
        return Activation(self.arranged(where, source.node, self.numbered(source.node).expand(shape)))

    def activation(self, argument: Any) -> Activation:
        """An argument that must be an activation."""
        if isinstance(argument, Weight):
            raise ParameterMisused
        if not isinstance(argument, Activation):
            raise Refused("its first argument must be an activation")
        return argument

    def shape(self, source: Activation) -> Shape:
        """The shape of an activation's node."""
        return self.nodes[source.node].shape

    def size(self, source: Activation) -> int:
        """How many values it has."""
        return math.prod(self.shape(source))

    def weight(self, argument: Any, *, transposed: bool = False) -> Slice:
        """The place of a weight in the parameter vector."""
        if isinstance(argument, Activation):
            raise Refused("activations may be multiplied by weights, not with each other")
        if not isinstance(argument, Weight):
            raise Refused(
                "its weight is no parameter of the module; register it as one (requires_grad=False keeps it fixed)"
            )
        tensor = argument.tensor.t() if transposed else argument.tensor
        place = self.storages.place_of(tensor)
        if place is None:
            raise ParameterMisused
        return place

    def stored(self, argument: Any) -> bool:
        """Whether a matrix (in, out) is a whole parameter as it is, and not the transposition of one."""
        return isinstance(argument, Weight) and self.storages.place_of(argument.tensor) is not None

    def bias(self, argument: Any, size: int) -> Slice | None:
        """The place of a bias, one number per output."""
        if argument is None:
            return None
        place = self.weight(argument)
        if place.shape != (size,):
            raise ParameterMisused
        return place

    def constant(self, value: Any) -> Tensor:
        """A number or a tensor as the pass computes with it, in float64."""
        if isinstance(value, Weight):
            raise ParameterMisused
        if isinstance(value, complex) or (isinstance(value, Tensor) and value.is_complex()):
            raise Refused("complex numbers have no bounds here")
        tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        return tensor.to(dtype=self.dtype, device=self.device).double()

    def scale(self, where: str, source: Activation, out: Tensor, scale: Tensor, shift: Tensor | None = None) -> int:
        """Add ``scale * z + shift``."""
        before = self.shape_of(out)
        source = self.expanded(where, source, before)
        key = f"constant{len(self.nodes)}"
        shift = torch.zeros((), dtype=torch.float64, device=self.device) if shift is None else shift
        self.constants[f"{key}.scale"] = self._per_image(scale, before)
        self.constants[f"{key}.shift"] = self._per_image(shift, before)
        return self.add(Scale(where, (source.node,), before, Constant(key)))

    def learned(
        self, where: str, source: Activation, out: Tensor, *, scale: Weight | None = None, shift: Weight | None = None
    ) -> int:
        """Add ``scale * z + shift`` with parameters."""
        shape = self.shape_of(out)
        source = self.expanded(where, source, shape)
        places = [None if part is None else self._per_value(part, shape) for part in (scale, shift)]
        return self.add(Scale(where, (source.node,), shape, Learned(*places)))

    def _per_value(self, argument: Weight, shape: Shape) -> Slice:
        """The place of a parameter that broadcasts to values of a shape, with as many axes."""
        place = self.weight(argument)
        sizes = place.shape[1:] if len(place.shape) == len(shape) + 1 and place.shape[0] == 1 else place.shape
        sizes = (*[1] * (len(shape) - len(sizes)), *sizes)
        if len(sizes) > len(shape) or any(n not in (1, m) for n, m in zip(sizes, shape, strict=True)):
            raise ParameterMisused
        return Slice(place.start, place.stop, sizes)

    def normed(self, where: str, source: Activation, out: Tensor, norm: BatchNorm) -> int:
        """Add a BatchNorm, whose statistics may change while the graph stays."""
        return self.append(Scale, where, source, out, norm)

    def _per_image(self, value: Tensor, shape: Shape) -> Tensor:
        """A constant without its batch axis, which broadcasts to ``shape`` and has as many axes, as a copy."""
        rank = len(shape)
        if value.dim() > rank:
            if value.dim() > rank + 1 or not torch.equal(value, value[:1].expand_as(value)):
                raise Refused(f"its constant of shape {tuple(value.shape)} differs between the images of a batch")
            value = value[0]
        value = value.reshape(*[1] * (rank - value.dim()), *value.shape)
        if any(n not in (1, m) for n, m in zip(value.shape, shape, strict=True)):
            raise Refused(f"its constant of shape {tuple(value.shape)} differs between the images of a batch")
        return value.clone(memory_format=torch.contiguous_format)
