"""One generation's images, prepared once for all members."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.basics.seeding import generator
from gls_es.bounds import Box, entry_box
from gls_es.fitness.stage import Stage
from gls_es.network import Network


@dataclass(frozen=True)
class Minibatch:
    """Images, labels and the boxes around them, prepared once for a whole population.

    Attributes:
        images: (B, *input_shape).
        labels: (B,) int64.
        box: the boxes of radius eps, clipped to [0, 1], at the network's entry.
        stage: the stage they were made for.
        starts: where attacks start, uniform in [0, 1] from a ball's lower to its upper end, the same for all members:
            (restarts, B, *input_shape).
    """

    images: Tensor
    labels: Tensor
    box: Box
    stage: Stage
    starts: Tensor | None = None

    @classmethod
    def prepare(
        cls, net: Network, images: Tensor, labels: Tensor, stage: Stage, *, attack_seed: int | None = None
    ) -> Minibatch:
        """The minibatch for one generation.

        Args:
            net: the network.
            images: (B, *input_shape).
            labels: (B,) int64.
            stage: what the fitness is.
            attack_seed: decides where attacks start; None where the stage's loss makes none.
        """
        lower, upper = ball(images, stage.eps)
        batch = cls(images, labels, entry_box(net, Box.between(lower, upper)), stage)
        if attack_seed is None:
            return batch
        shape = (stage.attack.restarts, *images.shape)
        return replace(batch, starts=torch.rand(shape, generator=generator(attack_seed, "attack")).to(images))

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Minibatch:
        """The images start:stop (views)."""
        starts = None if self.starts is None else self.starts[:, start:stop]
        return Minibatch(
            self.images[start:stop], self.labels[start:stop], self.box.images(start, stop), self.stage, starts
        )


def ball(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the L∞ balls around images, clipped to [0, 1]."""
    return (images - eps).clamp(min=0.0), (images + eps).clamp(max=1.0)
