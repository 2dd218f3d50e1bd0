"""``hbox``: the hybrid box (the paradox repository's ``hbox``; near to symbolic intervals, Wang et al. 2018).

A node's values are h ± (β + |E|): a head h, a box part β >= 0, and error terms E of the input's pixels only. Affine
maps take them to W h + b, |W| β and W E; sums of branches add each of them. A ReLU with bounds [l, u] = h ± (β + Σ|E|)
keeps all three where l >= 0, makes them zero where u <= 0, and forgets where an unstable value came from: the fresh
interval [0, u], that is h = u / 2, β = u / 2, E = 0. The margin matrix is folded into the last affine layer.

Σ|E| is found by a backward pass: what the stable paths let through is one matrix from the pixels to the values, and
windows keep it small. So no error term is ever stored, and the chunks of backward passes bound the memory.

Of the paradox table (arXiv 2102.06700, hBox / symbolic intervals): tightness 1.76, discontinuous (an unstable neuron
that becomes stable jumps at l = 0), insensitive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds.curved import image
from gls_es.bounds.forward import Forward, Step
from gls_es.bounds.method import Method
from gls_es.bounds.nodes import backward_rows, backward_spread, folded, output_rows
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import Lines
from gls_es.network.graph import Activation, Node


def _step(node: Node, lower: Tensor, upper: Tensor, error: Tensor | None) -> Step:
    """Stable ReLUs are exact, and so is half of u: there is no rounding to cover. Other activations forget all."""
    if isinstance(node, Activation):
        least, greatest = image(node, lower, upper)
        middle = torch.lerp(least, greatest, 0.5)
        radius = greatest - middle
        return Step(torch.zeros_like(middle), middle, box=radius if error is None else radius + error)
    active = lower >= 0
    half = torch.where(active | (upper <= 0), 0.0, upper * 0.5)
    return Step(active.to(lower.dtype), half, box=half)


def preactivations(query: Query) -> None:
    """Bounds of every ReLU's input, and the lines that let stable neurons through and nothing else."""
    forward = Forward(query, _step)
    for relu in query.relus:
        source = query.source(relu)
        head, box = forward.state(source)
        radius = box + backward_spread(query, source)
        query.bounds[relu] = query.for_all(head - radius), query.for_all(head + radius)
        scale = forward.step(relu).scale
        none = torch.zeros_like(scale)
        query.set_lines(relu, Lines(scale, none, none, none))


def margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j, (G, B, K - 1)."""
    output = query.graph.output
    rows = output_rows(query, labels)
    return -(folded(query, output, rows, Forward(query, _step).state) + backward_rows(query, output, rows))


HBOX = Method("hbox", "intervals, with the input's error terms kept along stable neurons", preactivations, margins)
