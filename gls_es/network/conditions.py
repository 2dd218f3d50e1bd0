"""What a module can be told apart by besides its input's values, and must not be: batch size and modes of autograd.

A graph stands for what a module computes in every ordinary call, while a ``forward`` may ask how many images it is
given, whether gradients are on, or whether its input needs one. A size that was not tried cannot be ruled out; those
tried are the sizes at hand and one that is larger than any constant that is likely to be meant as "a few".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.network.graph import Node

_VALUES = 2**20
_MANY = (9, 129)


@dataclass(frozen=True)
class Condition:
    """Circumstances of a call.

    Attributes:
        told: they, for messages, with a blank in front.
        count: of images.
        mode: autograd's.
        gradient: whether the input needs a gradient.
        may_fail: whether an exception is no fault: what cannot be run there has no other result there.
    """

    told: str
    count: int
    mode: Callable[[], AbstractContextManager[object]] = torch.no_grad
    gradient: bool = False
    may_fail: bool = False

    @contextmanager
    def holds(self) -> Iterator[None]:
        """A context in which autograd is in this mode."""
        with self.mode():
            yield

    def images(self, some: Tensor) -> Tensor:
        """So many images, drawn from ``some`` (n, *input_shape) in turn, as this call gives them."""
        chosen = some[torch.arange(self.count, device=some.device) % len(some)]
        return chosen.requires_grad_().clone() if self.gradient else chosen


def conditions_of(nodes: Sequence[Node]) -> tuple[Condition, ...]:
    """The circumstances in which a module that was seen to have these nodes is run again.

    Args:
        nodes: their sizes say how many images are many: as many as fill 2**20 numbers, but 9 to 129.
    """
    size = sum(math.prod(node.shape) for node in nodes)
    few, many = _MANY
    on = torch.enable_grad
    return (
        Condition(" on one image", 1),
        Condition(" on one image with gradients on", 1, on, may_fail=True),
        Condition(" on one image in inference_mode", 1, torch.inference_mode),
        Condition(" on one image that needs a gradient", 1, on, gradient=True, may_fail=True),
        Condition(" on two images that need a gradient", 2, on, gradient=True, may_fail=True),
        Condition(" on two images in inference_mode", 2, torch.inference_mode),
        Condition(" on a large batch with gradients on", min(max(_VALUES // size, few), many), on, may_fail=True),
        Condition(" on a large batch", min(max(_VALUES // size, few), many) + 1),
    )
