"""One generation's images, prepared once for all members."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gls_es.basics.seeding import generator
from gls_es.bounds import Box, Perturbation, entry_box
from gls_es.fitness.stage import Stage
from gls_es.network import Network


@dataclass(frozen=True)
class Minibatch:
    """Images, labels and the boxes around them, prepared once for a whole population.

    Attributes:
        images: (B, *input_shape).
        labels: (B,) int64.
        box: the regions of radius eps at the network's entry: boxes clipped to [0, 1], or L2 balls.
        stage: the stage they were made for.
        starts: where attacks start, uniform in [0, 1] from a ball's lower to its upper end, the same for all members:
            (restarts, B, *input_shape).
        perturbation: the shape of the regions.
        weights: (B,) weights of the images in a mean over them; None: all 1.
        exact: how many images, the first ones, get the stage's method beside its stand-in.
        exact_weight: images of the whole minibatch for each of them.
    """

    images: Tensor
    labels: Tensor
    box: Box
    stage: Stage
    starts: Tensor | None = None
    perturbation: Perturbation = field(default_factory=Perturbation)
    weights: Tensor | None = None
    exact: int = 0
    exact_weight: float = 1.0

    @classmethod
    def prepare(
        cls,
        net: Network,
        images: Tensor,
        labels: Tensor,
        stage: Stage,
        *,
        attack_seed: int | None = None,
        perturbation: Perturbation | None = None,
        weights: Tensor | None = None,
    ) -> Minibatch:
        """The minibatch for one generation.

        Args:
            net: the network.
            images: (B, *input_shape).
            labels: (B,) int64.
            stage: what the fitness is.
            attack_seed: decides where attacks start; None where the stage's loss makes none.
            perturbation: the shape of the regions; None: L∞ balls.
            weights: (B,) weights of the images; None: all 1.
        """
        perturbation = perturbation or Perturbation()
        box = entry_box(net, perturbation.around(images, stage.eps))
        exact = min(stage.exact_images, len(labels)) if stage.stand_in else 0
        batch = cls(
            images,
            labels,
            box,
            stage,
            perturbation=perturbation,
            weights=weights,
            exact=exact,
            exact_weight=len(labels) / max(exact, 1),
        )
        if attack_seed is None:
            return batch
        shape = (stage.attack.restarts, *images.shape)
        return replace(batch, starts=torch.rand(shape, generator=generator(attack_seed, "attack")).to(images))

    def __len__(self) -> int:
        return len(self.labels)

    def weighted(self, losses: Tensor) -> Tensor:
        """Losses (n, B) as they count in a mean over the images."""
        return losses if self.weights is None else losses * self.weights.to(losses)

    def part(self, start: int, stop: int) -> Minibatch:
        """The images start:stop (views)."""
        starts = None if self.starts is None else self.starts[:, start:stop]
        images, labels, box = self.images[start:stop], self.labels[start:stop], self.box.images(start, stop)
        weights = None if self.weights is None else self.weights[start:stop]
        exact = min(max(self.exact - start, 0), stop - start)
        return replace(self, images=images, labels=labels, box=box, starts=starts, weights=weights, exact=exact)
