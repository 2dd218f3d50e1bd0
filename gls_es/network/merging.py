"""Fewer nodes for the same function: what a traced graph is computed with.

A BatchNorm with frozen statistics goes into the affine layer before it. Copies of copies are one, copies of all values
in their order are none, and a matrix behind a permutation has its columns permuted instead, which costs nothing in a
backward pass. None of this changes a bound; which roundings execution makes stays known (:mod:`gls_es.network.steps`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from gls_es.network.graph import BatchNorm, Conv, Graph, Linear, Node, Reshape, Scale, Select
from gls_es.network.places import Places


def fused(nodes: tuple[Node, ...], num_parameters: int) -> Graph:
    """The graph of ``nodes`` with unread nodes dropped, BatchNorms fused and copies joined."""
    nodes = _without_idle(_reachable(_with_joined_copies(_reachable(nodes))))
    return Graph(_with_norms(_with_columns(nodes)), num_parameters)


# -- BatchNorm


def _with_norms(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """BatchNorms fused into the affine layer before them, where nobody else reads it."""
    graph = Graph(_reachable(nodes), 0)
    kept = list(graph.nodes)
    replaced: dict[int, int] = {}
    for index, node in enumerate(kept):
        if not isinstance(node, Scale) or not isinstance(node.source, BatchNorm):
            continue
        before = kept[node.inputs[0]]
        alone = graph.consumers[node.inputs[0]] == (index,)
        if isinstance(before, (Linear, Conv)) and before.norm is None and alone:
            kept[node.inputs[0]] = replace(before, norm=node.source)
            replaced[index] = node.inputs[0]
    return _without(tuple(kept), replaced)


# -- copies


def _with_joined_copies(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Copies of copies, and copies that are only reshaped, as one node each; copies of everything as none."""
    consumers = Graph(nodes, 0).consumers
    kept = list(nodes)
    for index, node in enumerate(kept):
        if isinstance(node, Select):
            kept[index] = _plainest(_from_origins(node, kept))
        elif isinstance(node, Reshape):
            before = kept[node.inputs[0]]
            if isinstance(before, Select) and consumers[node.inputs[0]] == (index,):
                kept[index] = replace(before, shape=node.shape)
            elif isinstance(before, Reshape):
                kept[index] = replace(node, inputs=before.inputs)
    return tuple(kept)


def _from_origins(node: Select, nodes: list[Node]) -> Select:
    """The same copies, of values that are no copies themselves, each read once."""
    sources: dict[int, int] = {}  # the nodes that are copied from, and where their values begin
    total = 0
    parts = []
    for source in node.inputs:
        source = _unreshaped(source, nodes)
        before = nodes[source]
        inner = before if isinstance(before, Select) and before.fill is None else None
        origins = (source,) if inner is None else inner.inputs
        for origin in origins:
            if origin not in sources:
                sources[origin] = total
                total += math.prod(nodes[origin].shape)
        index = torch.arange(math.prod(before.shape)) if inner is None else inner.places.index
        parts.append(_moved(index, origins, sources, nodes))
    index = Places(torch.cat(parts), (total,)).then(node.places.index)
    return _of_read_sources(node, index, sources, nodes)


def _unreshaped(source: int, nodes: list[Node]) -> int:
    while isinstance(nodes[source], Reshape):
        source = nodes[source].inputs[0]
    return source


def _moved(index: torch.Tensor, origins: tuple[int, ...], sources: dict[int, int], nodes: list[Node]) -> torch.Tensor:
    """Places among ``origins``, one after the other, as places among ``sources``."""
    there = [torch.arange(math.prod(nodes[o].shape)) + sources[o] for o in origins]
    return Places(torch.cat(there), (0,)).then(index)


def _of_read_sources(node: Select, index: torch.Tensor, sources: dict[int, int], nodes: list[Node]) -> Select:
    """The node with these places, without sources that no output copies."""
    origins: list[int] = []
    sizes: list[int] = []
    there = torch.full_like(index, -1)
    for origin, begin in sources.items():
        size = math.prod(nodes[origin].shape)
        read = (index >= begin) & (index < begin + size)
        if bool(read.any()) or (not origins and origin == list(sources)[-1]):
            there = torch.where(read, index - begin + sum(sizes), there)
            origins.append(origin)
            sizes.append(size)
    return replace(node, inputs=tuple(origins), places=Places(there, sizes))


def _plainest(node: Select) -> Node:
    """A reshape, where that is all that a node does."""
    if len(node.inputs) == 1 and node.places.same:
        return Reshape(node.path, node.inputs, node.shape)
    return node


def _with_columns(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Matrices behind a permutation of one node's values read that node, with their columns permuted."""
    consumers = Graph(nodes, 0).consumers
    kept = list(nodes)
    for index, node in enumerate(nodes):
        readers = [nodes[i] for i in consumers[index]]
        if isinstance(node, Select) and _permutes(node) and readers and all(isinstance(r, Linear) for r in readers):
            kept[index] = Reshape(node.path, node.inputs, node.shape)
            for place in set(consumers[index]):
                reader = kept[place]
                assert isinstance(reader, Linear)
                kept[place] = replace(reader, columns=node.places)
    return tuple(kept)


def _permutes(node: Select) -> bool:
    places = node.places
    return len(node.inputs) == 1 and len(places.index) == places.total and places.copies == 1 and places.complete


def _without_idle(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Without reshapes to the shape that a value has; the last node stays."""
    idle = {
        i: node.inputs[0]
        for i, node in enumerate(nodes[:-1])
        if isinstance(node, Reshape) and node.shape == nodes[node.inputs[0]].shape
    }
    return _without(nodes, idle)


# -- lists of nodes


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
