"""The graph as far as a forward pass has built it, and what translations of single operators use to build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gls_es.network.graph import BatchNorm, Constant, Node, Reshape, Scale, Shape, Slice
from gls_es.network.operators import ParameterMisused, Refused
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

    def add(self, node: Node) -> int:
        """Append a node; its index."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    def append(self, kind: Callable[..., Node], where: str, source: Activation, out: Tensor, *rest: Any) -> int:
        """Add a node of ``kind`` that reads one other."""
        return self.add(kind(where, (source.node,), self.shape_of(out), *rest))

    def shape_of(self, value: Tensor) -> Shape:
        """The shape of one image's value."""
        if value.dim() == 0 or value.shape[0] != self.batch:
            raise Refused(f"it mixes the images of a batch (a batch of {self.batch} becomes {tuple(value.shape)})")
        return tuple(value.shape[1:])

    def reshaped(self, node: int, shape: Shape, where: str) -> int:
        """The node with the same numbers in another shape."""
        if self.nodes[node].shape == shape:
            return node
        if (node, shape) not in self._reshaped:
            self._reshaped[node, shape] = self.add(Reshape(where, (node,), shape))
        return self._reshaped[node, shape]

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
        before = self.shape(source)
        if self.shape_of(out) != before:
            raise Refused(f"it broadcasts an activation of shape {before} to {self.shape_of(out)}")
        rank = len(before)
        key = f"constant{len(self.nodes)}"
        shift = torch.zeros((), dtype=torch.float64, device=self.device) if shift is None else shift
        self.constants[f"{key}.scale"] = self._per_image(scale, rank)
        self.constants[f"{key}.shift"] = self._per_image(shift, rank)
        return self.add(Scale(where, (source.node,), before, Constant(key)))

    def normed(self, where: str, source: Activation, out: Tensor, norm: BatchNorm) -> int:
        """Add a BatchNorm, whose statistics may change while the graph stays."""
        return self.append(Scale, where, source, out, norm)

    def _per_image(self, value: Tensor, rank: int) -> Tensor:
        """A constant without its batch axis, with exactly ``rank`` axes, as a copy."""
        if value.dim() > rank:
            if value.dim() > rank + 1 or not torch.equal(value, value[:1].expand_as(value)):
                raise Refused(f"its constant of shape {tuple(value.shape)} differs between the images of a batch")
            value = value[0]
        return value.reshape(*[1] * (rank - value.dim()), *value.shape).clone(memory_format=torch.contiguous_format)
