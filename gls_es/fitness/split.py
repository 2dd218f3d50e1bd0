"""A network in two halves: bounds up to a ReLU, and the layers behind it as a function of that ReLU's outputs."""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from gls_es.bounds import Box, Plan, box_preactivations
from gls_es.bounds.curved import image
from gls_es.bounds.regions import regions
from gls_es.network import Network
from gls_es.network.evaluation import value_of
from gls_es.network.graph import Graph, Nonlinear
from gls_es.network.layers import Layer


@lru_cache(maxsize=64)
def cut(graph: Graph, relus: int) -> int:
    """The last node with at least ``relus`` ReLUs behind it through which everything passes.

    It is a ReLU, or the network's entry, where the box is (behind the constant normalisation of the input).
    """
    entry, layers = regions(graph).box, graph.relus()
    nodes = [entry, *layers]
    fitting = [node for place, node in enumerate(nodes) if len(layers) - place >= relus]
    return max((node for node in fitting if _separates(graph, node)), default=entry)


def _separates(graph: Graph, node: int) -> bool:
    """Whether nothing behind a node reads anything before it."""
    return all(source >= node for index in range(node + 1, len(graph.nodes)) for source in graph.nodes[index].inputs)


def embeddings(net: Network, box: Box, params: Tensor, *, at: int, method: str, plan: Plan) -> tuple[Tensor, Tensor]:
    """The box of a node's values under a relaxation: lower and upper ends, (n | 1, B, *shape) each.

    Args:
        net: the network.
        box: B boxes at the network's entry.
        params: (n, L); gradients flow into them.
        at: a node that :func:`cut` gave.
        method: whose bounds of the ReLU's input are used.
        plan: chunk sizes.
    """
    if not isinstance(net.graph.nodes[at], Nonlinear):
        return box.centre - box.radius, box.centre + box.radius
    lower, upper = box_preactivations(net, box, params, method=method, plan=plan)[net.graph.relus().index(at)]
    return image(net.graph.nodes[at], lower, upper)


def logits_behind(graph: Graph, layers: list[Layer | None], at: int, values: Tensor) -> Tensor:
    """The logits of values at node ``at``, (n, N, *shape) -> (n, N, K), each member with its own layers."""
    known = {at: values}
    for index in range(at + 1, len(graph.nodes)):
        node = graph.nodes[index]
        inputs = [known[source] for source in node.inputs]
        known[index] = value_of(node, layers[index], inputs)
    return known[graph.output]
