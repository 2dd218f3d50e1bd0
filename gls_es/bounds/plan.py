"""How many members, images and rows of coefficients are bounded at once, from a budget in bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.bounds.box import Box
from gls_es.bounds.patches import Patch
from gls_es.network.graph import Add, Conv, Graph, Nonlinear, Pool, Scale, Select, Shape

CACHE_BYTES = 6 << 20
"""Default size of the largest coefficient tensor on a CPU: caches still hold it, and operations are not too short."""

VALUES_SHARE = 4
"""Values of a node may take this fraction of the budget when members are bounded together: intervals make many passes
over them, and one member that fills the cache gains nothing from company."""

GROUP_CHUNKS = 4
"""Members are bounded together while their coefficients for all images fill at most this many chunks: what is done once
for the group is shared, and its backward passes go through the images in chunks anyway."""

SIDE_BY_SIDE = 32
"""Input channels of a grouped convolution, all members together: beyond it one convolution a member is as quick."""

MOST_SIDE_BY_SIDE = 8
"""The most members whose intervals are pushed together in place: layers' fixed costs are shared by then."""

HELD = 3
"""Values of the largest node that a sweep holds: centre and radius, and one more in a ReLU."""

DEVICE_BYTES = 1 << 30
"""Default size of the largest coefficient tensor on an accelerator, where few large launches beat many small ones."""


class Work(Protocol):
    """What is bounded, as far as chunks depend on it; a :class:`~gls_es.bounds.work.Query` is one.

    Attributes:
        graph: the network's graph.
        box: the images' boxes.
        members: how many members are bounded together.
    """

    graph: Graph
    box: Box
    members: int


@dataclass(frozen=True)
class Plan:
    """Chunk sizes by bytes.

    Attributes:
        bytes: the most that one tensor of coefficients may take. A backward pass holds about four of them (sixteen
            when gradients are kept).
        members: the most members that are bounded together; as many are as ``bytes`` allows.
        tf32: on CUDA, leave TF32 as PyTorch is set to it, for training only: bounds are then off by about one percent.
        deadline: when chunks that are not begun are given up, by ``gls_es.basics.deadline.OutOfTime``.
        direct: where no gradient is asked for, use a method's quicker way to the margins, if it has one.
    """

    bytes: int
    members: int = 64
    tf32: bool = False
    deadline: Deadline = NEVER
    direct: bool = True

    @classmethod
    def default(cls, device: str) -> Plan:
        """What suits a device type."""
        return cls(CACHE_BYTES if device == "cpu" else DEVICE_BYTES)

    def group(self, graph: Graph, images: int, passes: str, element: int = 4) -> int:
        """How many members to bound together: small networks gain from it, for large ones one fills the cache.

        Args:
            graph: the network's graph.
            images: B.
            passes: a method's ``passes``, or "sweep" for intervals in place, which take images in turns, too, or "push"
                for compiled ones, which take members in turns, or "compiled" for compiled backward passes, which do,
                too, but whose bounds and lines are those of all members.
            element: bytes of a number.
        """
        if passes == "push":
            return self.members
        sizes = [row_size(graph, start) for start in _starts(graph, passes)]
        values = max(math.prod(node.shape) for node in graph.nodes)
        if passes == "sweep":
            return max(1, min(self.members, _side_by_side(graph), self.bytes // (HELD * values * element)))
        if passes == "forward":
            sizes = [values * values]  # a term for every value
        sizes = [VALUES_SHARE * values, *(math.ceil(size / GROUP_CHUNKS) for size in sizes)]
        most = [self.bytes // (images * element * size) for size in sizes]
        return max(1, min(self.members, *most))

    def image_chunk(self, work: Work, start: int, neurons: int | None = None) -> int:
        """How many images to bound at once from node ``start``: all of its neurons, or at most ``neurons`` an image."""
        return max(1, min(len(work.box), self._rows_that_fit(work, start) // _count(work, start, neurons)))

    def row_chunk(self, work: Work, start: int, neurons: int | None = None) -> int:
        """How many channels (or features, or ``neurons``) of node ``start`` to bound at once, for one image."""
        shape = work.graph.nodes[start].shape
        most, each = (channels(shape), math.prod(shape) // channels(shape)) if neurons is None else (neurons, 1)
        return max(1, min(most, self._rows_that_fit(work, start) // each))

    def swept_images(self, work: Work) -> int:
        """How many images to push intervals of in place at once."""
        values = max(math.prod(node.shape) for node in work.graph.nodes)
        return max(1, self.bytes // (HELD * values * work.members * work.box.centre.element_size()))

    def _rows_that_fit(self, work: Work, start: int) -> int:
        """For how many neurons of node ``start`` there is room."""
        size = row_size(work.graph, start) * work.members * work.box.centre.element_size()
        return math.prod(work.graph.nodes[start].shape) * self.bytes // max(size, 1)


def _count(work: Work, start: int, neurons: int | None) -> int:
    return math.prod(work.graph.nodes[start].shape) if neurons is None else neurons


def _starts(graph: Graph, passes: str) -> list[int]:
    """The nodes that backward passes start from."""
    if passes in ("none", "forward", "compiled"):
        return []
    layers = [graph.nodes[relu].inputs[0] for relu in graph.relus()] if passes == "all" else []
    return [*layers, graph.output]


def _side_by_side(graph: Graph) -> int:
    """How many members' intervals to push together: as many as grouped convolutions gain from."""
    read = [graph.nodes[n.inputs[0]].shape[0] for n in graph.nodes if isinstance(n, Conv) and n.inputs[0] > 0]
    return max(1, min([MOST_SIDE_BY_SIDE, *(SIDE_BY_SIDE // each for each in read)]))


def channels(shape: Shape) -> int:
    """How many values of a node share a position: maps have positions, everything else is flat."""
    return shape[0] if len(shape) == 3 else math.prod(shape)


@lru_cache(maxsize=1024)
def row_size(graph: Graph, start: int) -> int:
    """The most coefficients that a backward pass from all of node ``start`` holds at once, per image."""
    shape = graph.nodes[start].shape
    spatial = len(shape) == 3
    specs = 2 * math.prod(shape)
    patches: dict[int, Patch | None] = {start: Patch((shape[1], shape[2])) if spatial else None}
    largest = 0
    for index in range(start, -1, -1):
        if index not in patches:
            continue
        node, patch = graph.nodes[index], patches[index]
        largest = max(largest, _features(node.shape, patch))
        if isinstance(node, Select) and patch is None:
            largest = max(largest, node.places.total)
        for source in node.inputs:
            before = graph.nodes[source].shape
            seen = patch
            if patch is not None and isinstance(node, (Conv, Pool)):
                seen = patch.before(node.window)
            elif isinstance(node, Select):
                channels = node.places.by_channels(node.shape, *(graph.nodes[i].shape for i in node.inputs))
                seen = patch if channels is not None else None
            elif not isinstance(node, (Nonlinear, Add, Scale, Conv, Pool)):
                seen = None
            if seen is not None and seen.area >= before[1] * before[2]:
                seen = None
            other = patches.get(source, seen)
            patches[source] = None if other is None or seen is None else _larger(seen, other)
    return specs * largest


def _larger(one: Patch, other: Patch) -> Patch:
    return one if one.area >= other.area else other


def _features(shape: Shape, patch: Patch | None) -> int:
    return math.prod(shape) if patch is None else shape[0] * patch.area
