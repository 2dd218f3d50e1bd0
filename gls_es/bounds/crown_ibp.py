"""``crown-ibp``: intervals for the pre-activations, one backward pass for the margins (Zhang et al. 2020).

Without loss fusion (the row "CROWN-IBP (R)" of arXiv 2102.06700: tightness 2.15, discontinuous, sensitive). Neither
always tighter nor always looser than ``ibp`` or ``crown``. The lower slope is the adaptive one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds.backward import Rows, upper_bounds
from gls_es.bounds.compiled import usable
from gls_es.bounds.curved import curve_of, enclosed
from gls_es.bounds.method import Method, fill
from gls_es.bounds.nodes import backward_margins, chunks, interval_bounds
from gls_es.bounds.pairs import folded_margins, other_classes, worth_it
from gls_es.bounds.pushed import pushed_crown_margins
from gls_es.bounds.query import Query
from gls_es.bounds.relaxation import adaptive, enclose_over
from gls_es.bounds.sweep import Sweep, swept_parts
from gls_es.bounds.workspace import Workspace, workspace
from gls_es.network.layers import Dense


def preactivations(query: Query) -> None:
    """Intervals for every ReLU, and the lines for the last pass."""
    fill(query, interval_bounds, adaptive)


def direct(query: Query, labels: Tensor) -> Tensor:
    """The margins from intervals in place and a backward pass, (G, B, K - 1).

    Without kernels, members take turns in the backward pass: their coefficients fill the cache anyway, and nothing has
    to be put together then.
    """
    if not query.relus:
        return backward_margins(query, labels)
    found = pushed_crown_margins(query, labels, "adaptive")
    return _swept_margins(query, labels) if found is None else found


def _swept_margins(query: Query, labels: Tensor) -> Tensor:
    work = workspace()
    work.restart()
    layer = query.layers[query.graph.output]
    fold = isinstance(layer, Dense) and worth_it(layer.weight.shape[1], len(labels))
    margins = _folded_margins if fold else backward_margins
    found = []
    for images in swept_parts(query):
        part = query.part(images)
        lent = _draw_lines(part, work)
        if usable(query.box):
            found.append(backward_margins(part, labels[images]))
        else:
            found.append(torch.cat([margins(part.member(g), labels[images]) for g in range(query.members)]))
        work.give(*lent)
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def _draw_lines(query: Query, work: Workspace) -> list[Tensor]:
    """Give the query the lines of all ReLUs; returns the buffers that they lie in."""
    if not query.relus:
        return []
    sweep, lent = Sweep(query, query.box, work, keep=True), []
    sweep.run(query.relus[-1])
    for relu in query.relus:
        lower, upper, centre = sweep.kept.pop(relu)
        source = query.source(relu)
        if not query.regions.after_relu[source]:
            query.set_base(source, centre)
        f = curve_of(query.node(relu))
        if f is not None:
            query.set_lines(relu, enclosed(f, lower, upper, query.base(source), adaptive))
            lent += [lower, upper, centre]
            continue
        buffers = work.take(lower.shape, lower), work.take(lower.shape, lower)
        query.set_lines(relu, enclose_over(lower, upper, query.base(source), buffers))
        lent += [lower, upper, centre, *buffers]
    sweep.finish()
    return lent


def _folded_margins(query: Query, labels: Tensor) -> Tensor:
    """``backward_margins`` with the margins of all classes folded into the last layer once, (G, B, K - 1)."""
    output = query.graph.output
    layer, source = query.layers[output], query.source(output)
    assert isinstance(layer, Dense)
    table, others = folded_margins(layer), other_classes(layer.weight.shape[1], labels.device)[labels]
    parts = chunks(len(labels), query.plan.image_chunk(query, source, others.shape[1]))
    found = [upper_bounds(query, source, Rows(table[:, labels[part]]), part) for part in parts]
    query.forget_seen()
    upper = found[0] if len(found) == 1 else torch.cat(found, 1)
    base = query.base(output)
    if base is None:
        return -upper
    base = base.expand(len(upper), len(labels), -1)
    own, other = labels.expand(len(upper), -1)[..., None], others.expand(len(upper), -1, -1)
    return base.gather(2, own) - base.gather(2, other) - upper


CROWN_IBP = Method(
    "crown-ibp",
    "intervals, then one backward pass",
    preactivations,
    backward_margins,
    passes="last",
    direct=direct,
    balls=True,
)
