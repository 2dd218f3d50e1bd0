"""The small graph a network is traced into: what is computed, with which slices of the parameter vector.

A graph is a tuple of nodes in topological order; node 0 is the input, the last node gives the logits. Nodes hold
shapes and places in the parameter vector, never weights: the same graph serves every member of a population.
Only affine maps, ReLU and other functions of single numbers exist, a node for every step that is executed. ``merging``
then joins some of them, which saves work and changes no bound; what execution errs in between is charged all the same
(see :mod:`gls_es.network.steps`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gls_es.network.places import Places

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
class Learned:
    """A map ``scale * z + shift`` whose numbers are parameters that broadcast to a value; None for 1, or for 0."""

    scale: Slice | None
    shift: Slice | None


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
    """``W z + b`` on flat values, with an optional fused BatchNorm after it.

    With ``columns`` the weight multiplies the values that these places select, and z is what they select from.
    ``turned`` says that the weight is stored as (in, out).
    """

    weight: Slice
    bias: Slice | None
    norm: BatchNorm | None = None
    columns: Places | None = None
    turned: bool = False


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
    """A 2-d convolution with zero padding, with an optional fused BatchNorm after it.

    ``turned`` says that the weight is that of a transposed convolution, (in, out / groups, kh, kw), whose kernels are
    read with their channels exchanged and both axes reversed.
    """

    weight: Slice
    bias: Slice | None
    window: Window
    norm: BatchNorm | None = None
    turned: bool = False


@dataclass(frozen=True)
class Pool(Node):
    """Average pooling: a depthwise convolution with the constant weight ``1 / divisor``."""

    window: Window
    divisor: int


@dataclass(frozen=True)
class Scale(Node):
    """An elementwise affine map that could not be fused: normalisation of the input, BatchNorm after an addition."""

    source: BatchNorm | Constant | Learned | Factor


@dataclass(frozen=True)
class Add(Node):
    """The sum of two nodes."""


@dataclass(frozen=True)
class Reshape(Node):
    """The same numbers in another shape, row-major (flatten)."""


@dataclass(frozen=True)
class Select(Node):
    """Copies of values of its inputs, flat and one after the other, in any order; a constant where nothing is copied.

    Slices, permutations, repetition, padding and concatenation are all this. ``fill`` names the constants, one for
    every output and 0 where a value is copied, in :attr:`Graph.constants`; None stands for zeros.
    """

    places: Places
    fill: str | None = None


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

    @property
    def only_relus(self) -> bool:
        """Whether ReLU is the only activation."""
        return not any(isinstance(node, Activation) for node in self.nodes)
