"""What a loss is to the rest: every member's value on every image, and what its graph holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.bounds import Plan, method_named
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.stage import Stage
from gls_es.network import Network

ImageLosses = Callable[[Network, Minibatch, Tensor, Plan], Tensor]


@dataclass(frozen=True)
class Loss:
    """A named loss.

    Attributes:
        name: what ``loss=`` takes.
        summary: one line for tables and help.
        image_losses: (net, minibatch with eps > 0, params (n, L), plan) -> (n, B); differentiable in the weights where
            the relaxation is, and without gradients outside ``torch.enable_grad``.
        passes: which backward passes of bounds it makes, in the words of :class:`gls_es.bounds.Method`.
        attacks: whether it needs the minibatch's ``starts``.
        method: the relaxation where the user chooses none; None: the problem's.
    """

    name: str
    summary: str
    image_losses: ImageLosses
    passes: Callable[[Stage], str]
    attacks: bool = False
    method: str | None = None


def no_passes(_stage: Stage) -> str:
    """Of a loss without bounds, or with intervals only."""
    return "none"


def passes_of_method(stage: Stage) -> str:
    """Of a loss that bounds margins with the stage's relaxation."""
    return method_named(stage.method).passes


def by_groups(
    function: Callable[[Tensor], Tensor], net: Network, batch: Minibatch, params: Tensor, *, plan: Plan
) -> Tensor:
    """``function`` of the population, (n, L) -> (n, ...), as many members at once as the plan holds values of."""
    size = plan.group(net.graph, len(batch), "none", params.element_size())
    return torch.cat([function(group) for group in params.split(size)])
