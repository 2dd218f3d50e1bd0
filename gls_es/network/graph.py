"""The small graph a network is traced into: what is computed, with which slices of the parameter vector.

A graph is a tuple of nodes in topological order; node 0 is the input, the last node gives the logits. Nodes hold
shapes and places in the parameter vector, never weights: the same graph serves every member of a population.
Only affine maps, ReLU and other functions of single numbers exist, a node for every step that is executed. Only a
BatchNorm with frozen statistics is fused into the layer before it, which saves work and changes no bound; what
execution errs in between is charged all the same (see :mod:`gls_es.network.steps`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """Where a parameter lies in the flat vector: ``theta[start:stop]`` reshaped to ``shape``."""

    start: int
    stop: int
    shape: Shape


@dataclass(frozen=True)
class BatchNorm:
    """Frozen normalisation of channels: γ (z - mean) / √(var + eps) + β, with mean and var buffers of ``path``."""

    path: str
    eps: float
    weight: Slice | None
    bias: Slice | None


@dataclass(frozen=True)
class Constant:
    """A map ``scale * z + shift`` whose per-element numbers are the buffers ``scale`` and ``shift`` of the network.

    ``key`` names them in :attr:`Graph.constants`; both broadcast against a value of the node's shape.
    """

    key: str


@dataclass(frozen=True)
class Factor:
    """A map ``a z`` with the parameter a, one number or one a channel, or ``(1 - a) z``."""

    place: Slice
    complement: bool = False


@dataclass(frozen=True)
class Node:
    """What all nodes have: the module path (for messages), the inputs' indices, the shape without the batch."""

    path: str
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True)
class Input(Node):
    """The image."""


@dataclass(frozen=True)
class Linear(Node):
    """``W z + b`` on flat values, with an optional fused BatchNorm after it."""

    weight: Slice
    bias: Slice | None
    norm: BatchNorm | None = None


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pooling window, (height, width) each."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Conv(Node):
    """A 2-d convolution with zero padding, with an optional fused BatchNorm after it."""

    weight: Slice
    bias: Slice | None
    window: Window
    norm: BatchNorm | None = None


@dataclass(frozen=True)
class Pool(Node):
    """Average pooling: a depthwise convolution with the constant weight ``1 / divisor``."""

    window: Window
    divisor: int


@dataclass(frozen=True)
class Scale(Node):
    """An elementwise affine map that could not be fused: normalisation of the input, BatchNorm after an addition."""

    source: BatchNorm | Constant | Factor


@dataclass(frozen=True)
class Add(Node):
    """The sum of two nodes."""


@dataclass(frozen=True)
class Reshape(Node):
    """The same numbers in another shape, row-major (flatten)."""


@dataclass(frozen=True)
class Nonlinear(Node):
    """A function of single numbers that is no affine map."""


@dataclass(frozen=True)
class ReLU(Nonlinear):
    """max(z, 0)."""


@dataclass(frozen=True)
class Activation(Nonlinear):
    """Another one: a name and constants of :mod:`gls_es.network.activations.table`."""

    kind: str
    constants: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order and, per node, who reads it; compared by identity."""

    nodes: tuple[Node, ...]
    num_parameters: int
    consumers: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        readers: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for source in node.inputs:
                readers[source].append(index)
        object.__setattr__(self, "consumers", tuple(map(tuple, readers)))

    @property
    def output(self) -> int:
        """Index of the node that gives the logits."""
        return len(self.nodes) - 1

    def relus(self) -> tuple[int, ...]:
        """Indices of the nonlinear nodes, ReLUs and other activations, in topological order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Nonlinear))


def fused(nodes: tuple[Node, ...], num_parameters: int) -> Graph:
    """The graph of ``nodes`` with unread nodes dropped and BatchNorms fused into the affine layer before them."""
    graph = Graph(_reachable(nodes), num_parameters)
    kept = list(graph.nodes)
    replaced: dict[int, int] = {}
    for index, node in enumerate(kept):
        if not isinstance(node, Scale) or not isinstance(node.source, BatchNorm):
            continue
        before = kept[node.inputs[0]]
        alone = graph.consumers[node.inputs[0]] == (index,)
        if isinstance(before, (Linear, Conv)) and before.norm is None and alone:
            kept[node.inputs[0]] = _with_norm(before, node)
            replaced[index] = node.inputs[0]
    return Graph(_without(tuple(kept), replaced), num_parameters)


def _with_norm(layer: Linear | Conv, scale: Scale) -> Linear | Conv:
    norm = scale.source
    assert isinstance(norm, BatchNorm)
    if isinstance(layer, Linear):
        return Linear(layer.path, layer.inputs, layer.shape, layer.weight, layer.bias, norm)
    return Conv(layer.path, layer.inputs, layer.shape, layer.weight, layer.bias, layer.window, norm)


def _reachable(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The nodes that the last one depends on (the input always stays)."""
    needed = {0, len(nodes) - 1}
    for index in range(len(nodes) - 1, 0, -1):
        if index in needed:
            needed.update(nodes[index].inputs)
    return _without(nodes, {index: -1 for index in range(len(nodes)) if index not in needed})


def _without(nodes: tuple[Node, ...], replaced: dict[int, int]) -> tuple[Node, ...]:
    """Drop the keys of ``replaced``; who read one reads its value instead."""
    new_index: dict[int, int] = {}
    kept: list[Node] = []
    for index, node in enumerate(nodes):
        if index in replaced:
            if replaced[index] >= 0:
                new_index[index] = new_index[replaced[index]]
            continue
        new_index[index] = len(kept)
        kept.append(_rewired(node, tuple(new_index[i] for i in node.inputs)))
    return tuple(kept)


def _rewired(node: Node, inputs: tuple[int, ...]) -> Node:
    return node if inputs == node.inputs else replace(node, inputs=inputs)
