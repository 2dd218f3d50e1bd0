"""What a graph's structure alone says about bounds: where the box enters, and which intervals are exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gls_es.network.graph import Add, Constant, Graph, Input, Nonlinear, Reshape, Scale, Select


@dataclass(frozen=True)
class Regions:
    """Facts about a graph.

    Attributes:
        box: the node whose value the input box is pushed to once for all members (the input, or the constant
            normalisation that follows it).
        exact: per node, whether its interval is exact on the box: at most one affine map that mixes values lies between
            the box and the node, so every method has the same bounds there and none needs a backward pass.
        after_relu: per node, whether a ReLU or another activation lies between the box and the node.
    """

    box: int
    exact: tuple[bool, ...]
    after_relu: tuple[bool, ...]


@lru_cache(maxsize=64)
def regions(graph: Graph) -> Regions:
    """The facts about ``graph``."""
    box = 0
    while len(graph.consumers[box]) == 1:
        reader = graph.nodes[graph.consumers[box][0]]
        if not (isinstance(reader, Scale) and isinstance(reader.source, Constant)):
            break
        if graph.consumers[box][0] == graph.output:
            break
        box = graph.consumers[box][0]
    mixes = [0] * len(graph.nodes)  # affine maps that mix values, on the way from the box; -1: too many
    after = [False] * len(graph.nodes)
    for index, node in enumerate(graph.nodes):
        if index <= box or isinstance(node, Input):
            continue
        before = [mixes[i] for i in node.inputs]
        after[index] = isinstance(node, Nonlinear) or any(after[i] for i in node.inputs)
        if isinstance(node, (Nonlinear, Add)) or -1 in before:
            mixes[index] = -1
        elif isinstance(node, (Scale, Reshape)):
            mixes[index] = before[0]
        elif isinstance(node, Select):  # exact itself, but what reads copies of one value, or of two nodes, is not
            mixes[index] = before[0] if len(before) == 1 and node.places.copies <= 1 else 1
        else:
            mixes[index] = 1 if before[0] == 0 else -1
    return Regions(box, tuple(m >= 0 for m in mixes), tuple(after))
