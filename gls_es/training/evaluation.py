"""How the center does on held-out images while training goes on: a cheap estimate, not a certificate."""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds import box_margins, entry_box
from gls_es.problem import CertifiedTrainingProblem

_CHUNK = 64


@torch.no_grad()
def center_row(problem: CertifiedTrainingProblem, center: Tensor, *, images: int) -> dict[str, float]:
    """Natural and certified accuracy of one weight vector on the first held-out images, at the full eps.

    Certified means: every margin's bound under the problem's relaxation or under intervals is positive, in float32
    without rounding guards. ``gls_es.certify`` gives certificates.

    Args:
        problem: gives the network, the data, eps and the relaxation.
        center: (L,).
        images: at most this many.

    Returns:
        ``natural_accuracy`` and ``certified_accuracy``, fractions.
    """
    net, held_out = problem.network, problem.data.held_out
    count = min(images, len(held_out))
    natural = certified = 0
    for start in range(0, count, _CHUNK):
        rows = torch.arange(start, min(start + _CHUNK, count))
        x, y = held_out.batch(rows, device=str(problem.aux_device))
        params = center.to(x)[None]
        natural += int((net.logits(x, params)[0].argmax(1) == y).sum())
        box = entry_box(net, problem.perturbation.around(x, problem.eps))
        found = [(box_margins(net, box, y, params, method=method)[0] > 0).all(1) for method in (problem.method, "ibp")]
        certified += int(torch.stack(found).any(0).sum())
    return {"natural_accuracy": natural / count, "certified_accuracy": certified / count}
