"""A box's network without the ReLUs that are 0 on all of it: what is left is bounded faster, and the same.

Where an executed z is <= 0 on the whole box, its ReLU gives exactly 0, and so do its products in the next layer, and
adding them rounds nothing, in whatever order sums are taken. So rows and columns of the weights are left out, and every
bound and every error of what is left holds for the whole network. That the whole one overflows nowhere is not seen any
more afterwards, and has to be known before.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gls_es.bounds.query import Query
from gls_es.certification.dual import Balls, fill_constants
from gls_es.network.graph import Graph, Linear, ReLU
from gls_es.network.layers import Dense, Layer


def without_dead(balls: Balls) -> Balls:
    """The ball of one image without the ReLUs between two linear layers that are 0 on it.

    Args:
        balls: of one image, no error in it infinite.
    """
    kept = _kept(balls.proof)
    if not kept:
        return balls
    graph = _smaller_graph(balls.proof.graph, kept)
    small = Balls(_smaller(balls.proof, graph, kept), _smaller(balls.search, graph, kept), balls.rows)
    with torch.no_grad():
        fill_constants(small.proof)
        fill_constants(small.search)
    return small


def _kept(query: Query) -> dict[int, Tensor]:
    """Places of the neurons that are kept, by ReLU, where some are not."""
    found = {}
    graph = query.graph
    for relu in query.relus:
        source, readers = query.source(relu), graph.consumers[relu]
        plain = all(_is_plain(query, index) for index in (source, *readers))
        if not (isinstance(query.node(relu), ReLU) and plain and readers and graph.consumers[source] == (relu,)):
            continue
        alive = query.bounds[relu][1][0, 0] > 0
        alive[0] |= not bool(alive.any())
        if not bool(alive.all()):
            found[relu] = alive.nonzero()[:, 0]
    return found


def _is_plain(query: Query, index: int) -> bool:
    """Whether a node is a matrix and a bias, executed as such."""
    layer = query.layers[index]
    return isinstance(query.node(index), Linear) and isinstance(layer, Dense) and layer.steps is None


def _smaller_graph(graph: Graph, kept: dict[int, Tensor]) -> Graph:
    nodes = list(graph.nodes)
    for relu, places in kept.items():
        for index in (relu, nodes[relu].inputs[0]):
            nodes[index] = replace(nodes[index], shape=(len(places),))
    return Graph(tuple(nodes), graph.num_parameters)


def _smaller(query: Query, graph: Graph, kept: dict[int, Tensor]) -> Query:
    layers: list[Layer | None] = list(query.layers)
    bounds = dict(query.bounds)
    for relu, places in kept.items():
        source = query.source(relu)
        layer = layers[source]
        assert isinstance(layer, Dense)
        bias, size = (None if v is None else v[..., places] for v in (layer.bias, layer.bias_size))
        layers[source] = Dense(layer.weight[:, places], bias, size)
        for reader in graph.consumers[relu]:
            layer = layers[reader]
            assert isinstance(layer, Dense)
            layers[reader] = Dense(layer.weight[:, :, places].contiguous(), layer.bias, layer.bias_size)
        low, up = bounds[relu]
        bounds[relu] = low[..., places], up[..., places]
    return replace(query, graph=graph, layers=layers, bounds=bounds, errors=None, others=[], multipliers={})
