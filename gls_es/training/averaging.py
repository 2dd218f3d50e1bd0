"""The mean of the centers that training passed through: a network better than the last one of a noisy walk.

Averages of the iterates of stochastic descent: Polyak and Juditsky 1992; of network weights: arXiv 1803.05407.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Average:
    """A running mean of weight vectors in which the n-th has weight max(1 - decay, 1/n).

    It is their plain mean as long as n <= 1 / (1 - decay), and from there on an exponential average; so no weight is
    left on a start that was only a guess. Decay 1 is the plain mean throughout.

    Attributes:
        decay: in [0, 1]; 0 means no averaging.
        start: generations that are left out at the beginning.
        center: the mean so far, (L,); None before the first.
        count: centers in it.
    """

    decay: float
    start: int = 0
    center: Tensor | None = None
    count: int = 0

    def add(self, center: Tensor, generation: int) -> None:
        """Take in the center after ``generation`` generations."""
        if self.decay == 0.0 or generation <= self.start:
            return
        self.count += 1
        if self.center is None:
            self.center = center.detach().clone()
        else:
            self.center.lerp_(center, max(1.0 - self.decay, 1.0 / self.count))
