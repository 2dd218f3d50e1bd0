"""Error terms pushed forward from where they arise, in chunks, for zonotopes.

An error term arises at a pixel or at an unstable neuron, and from there on is the same linear function of the weights
on every path: so terms are pushed by where they arise, a chunk at a time, through all branches at once, and sums of
branches need no bookkeeping. Nothing is kept but sums of absolute values; a later node's terms are pushed anew. A chunk
is as large as the plan's bytes allow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from gls_es.bounds.forward import Forward
from gls_es.bounds.nodes import chunks
from gls_es.bounds.query import Query
from gls_es.network.graph import Graph, Nonlinear
from gls_es.network.layers import propagate


def spread(query: Query, forward: Forward, index: int, rows: Tensor | None = None) -> Tensor:
    """How far all error terms together can move node ``index``, or linear functions of it: Σ_e |rows e|.

    Args:
        query: the layers and the box.
        forward: the steps of the ReLUs before the node.
        index: the node.
        rows: coefficients on the node's flat value, (1, B, S, F); None for the values themselves.

    Returns:
        (G | 1, B, *shape), or (G | 1, B, S) for rows.
    """
    origins = [i for i in sorted(_ancestors(query.graph, index)) if _makes_terms(query, i)]
    sizes = {i: query.box.radius if i == query.regions.box else forward.step(i).term for i in origins}
    parts = []
    for images in chunks(len(query.box), _images(query, origins, index)):
        total: Tensor | None = None
        for origin, size in sizes.items():
            assert size is not None
            for terms in _diagonal(size[:, images], _budget(query, origin, index)):
                moved = _pushed(query, forward, origin, terms, images, index)
                if rows is not None:
                    moved = torch.matmul(moved.flatten(3), rows[:, images].transpose(2, 3))
                found = moved.abs().sum(2)
                total = found if total is None else total + found
        assert total is not None
        parts.append(total)
    result = torch.cat(parts, 1)
    if query.rounding is not None:  # the sum of many terms, rounded up
        count = sum(math.prod(query.node(i).shape) for i in origins)
        result = result * (1 + (count + 64) * torch.finfo(result.dtype).eps)
    return result


def _makes_terms(query: Query, index: int) -> bool:
    return index == query.regions.box or isinstance(query.node(index), Nonlinear)


@lru_cache(maxsize=1024)
def _ancestors(graph: Graph, index: int) -> frozenset[int]:
    """The nodes that node ``index`` depends on, and itself."""
    found = {index}
    for i in range(index, -1, -1):
        if i in found:
            found.update(graph.nodes[i].inputs)
    return frozenset(found)


def _budget(query: Query, origin: int, index: int) -> int:
    """How many values of images x terms may be pushed at once from ``origin`` to ``index``."""
    largest = max(math.prod(query.node(i).shape) for i in range(origin, index + 1))
    return max(1, query.plan.bytes // (largest * query.members * query.box.centre.element_size()))


def _images(query: Query, origins: list[int], index: int) -> int:
    """How many images to treat at once: as many as fit with all terms of an origin, at least one."""
    fitting = [_budget(query, i, index) // math.prod(query.node(i).shape) for i in origins]
    return max(1, min([len(query.box), *fitting]))


def _diagonal(sizes: Tensor, budget: int) -> Iterator[Tensor]:
    """Error terms of the given sizes (G | 1, b, *shape), one a value, those that are zero for all left out.

    Yields:
        (G | 1, b, e, *shape), with b e at most ``budget`` if it can be.
    """
    shape = sizes.shape[2:]
    flat = sizes.flatten(2)
    present = (flat != 0).to(torch.uint8)  # NaN is present
    most = int(present.sum(2).max())
    places = present.argsort(dim=2, descending=True, stable=True)[..., : max(most, 1)]
    for part in chunks(places.shape[2], max(1, budget // flat.shape[1])):
        where = places[..., part]
        terms = flat.new_zeros(*where.shape, flat.shape[2])
        terms = terms.scatter(3, where.unsqueeze(3), flat.gather(2, where).unsqueeze(3))
        yield terms.reshape(*where.shape, *shape)


def _pushed(query: Query, forward: Forward, origin: int, terms: Tensor, images: slice, index: int) -> Tensor:
    """Terms (G | 1, b, e, *shape) at node ``origin`` as they arrive at node ``index``, over all paths between."""
    query.plan.deadline.check()
    needed = _ancestors(query.graph, index)
    count = terms.shape[1:3]
    values = {origin: terms.flatten(1, 2)}
    for i in range(origin + 1, index + 1):
        node = query.node(i)
        known = [values.get(source) for source in node.inputs]
        if i not in needed or all(value is None for value in known):
            continue
        if isinstance(node, Nonlinear):
            scale, terms = forward.step(i).scale[:, images].unsqueeze(2), values[node.inputs[0]]
            values[i] = (terms.reshape(terms.shape[0], *count, *node.shape) * scale).flatten(1, 2)
        else:
            values[i] = propagate(query.layers[i], node, known)
        for source in node.inputs:
            if source in values and max(c for c in query.graph.consumers[source] if c in needed) == i:
                del values[source]  # nobody reads it again
    arrived = values[index]
    return arrived.reshape(arrived.shape[0], *count, *arrived.shape[2:])
