"""The last look before an image counts as certified: graph and module agree on it, and on points of its ball.

A certificate is proven on the traced graph. The graph was compared with the module when it was traced, operator by
operator; here both are run once more, in float64, where the certificate claims something: on the image, on the ends of
its ball and on random corners. Logits must agree within what rounding explains, entry by entry, and the executor must
classify all these points as labelled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.certification.ball import inner_box
from gls_es.certification.execution import Executor
from gls_es.network import Network
from gls_es.network.evaluation import agree

_CORNERS = 2
_AT_ONCE = 64


class LastLook:
    """Compares a network's graph with its module.

    Args:
        network: the network.
        dtype: format of the executor that certificates are about.
        device: where to compute.
    """

    def __init__(self, network: Network, *, dtype: torch.dtype, device: torch.device) -> None:
        self._network = network
        self._exact = Executor(network, dtype=torch.float64, device=device)
        self._executor = self._exact if dtype == torch.float64 else Executor(network, dtype=dtype, device=device)

    def stands(self, images: Tensor, labels: Tensor, *, eps: float | Tensor, clip: bool, seed: int) -> Tensor:
        """Which images may be certified, (B,) bool.

        Args:
            images: (B, *input_shape), float32.
            labels: (B,), int64.
            eps: the ball's radius, or each pixel's.
            clip: whether it is cut off at 0 and 1.
            seed: of the random corners.
        """
        lower, upper = inner_box(images, eps=eps, clip=clip)
        return self.equal(lower, upper, images, labels=labels, seed=seed)

    @torch.no_grad()
    def equal(self, lower: Tensor, upper: Tensor, inside: Tensor, *, labels: Tensor | None, seed: int) -> Tensor:
        """Where graph and module agree on the ends, random corners and a given point of boxes, (B,) bool.

        Args:
            lower: (B, *input_shape), float32.
            upper: the same shape.
            inside: a point of each box.
            labels: (B,), the classes that the executor has to see there; None: any.
            seed: of the random corners.
        """
        generator = torch.Generator().manual_seed(seed)
        found = []
        for start in range(0, len(lower), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            points = [inside[part], lower[part], upper[part]]
            for _ in range(_CORNERS):
                high = torch.rand(lower.shape[1:], generator=generator).round().bool().to(lower.device)
                points.append(torch.where(high, upper[part], lower[part]))
            count = len(points[0])
            x = torch.cat(points)
            same = self._same(x)
            if labels is not None:
                same &= (self._executor.margins(x, labels[part].repeat(len(points))) > 0).all(dim=1)
            found.append(same.reshape(-1, count).all(dim=0))
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool, device=lower.device)

    def _same(self, points: Tensor) -> Tensor:
        graph, tolerance = self._network.checked_logits(points)
        executed = self._exact.logits(points)
        finite = graph.isfinite() & executed.isfinite()
        return (finite & agree(graph, executed, tolerance)).all(dim=1)
