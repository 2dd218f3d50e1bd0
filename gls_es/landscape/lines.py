"""Losses on a line θ + t d, and their Gaussian smoothing L_σ(θ + t d) = E[L(θ + t d + ε)], ε ~ N(0, σ²)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.basics.seeding import generator
from gls_es.basics.threads import over_members
from gls_es.fitness import Minibatch, image_losses
from gls_es.network import Network

MEMBERS = 256
"""Points evaluated at once, so that memory does not grow with the number of points."""


@dataclass(frozen=True)
class Line:
    """A line through the weights and the loss on it.

    Attributes:
        net: the network.
        batch: images, boxes and what the fitness is.
        center: θ, (L,).
        direction: d, (L,).
    """

    net: Network
    batch: Minibatch
    center: Tensor
    direction: Tensor

    @torch.no_grad()
    def losses(self, steps: Tensor) -> Tensor:
        """L(θ + t d) for every t, (T,)."""
        return self._evaluated(steps.to(self.center), self.center.new_zeros(1, len(self.center)))[:, 0]

    @torch.no_grad()
    def smoothed(self, steps: Tensor, sigma: float, *, samples: int, seed: int) -> Tensor:
        """L_σ(θ + t d) for every t, (T,), the mean over antithetic noise that is the same for every t.

        Args:
            steps: t, (T,).
            sigma: the noise's standard deviation, absolute.
            samples: how many perturbed weight vectors per point; even.
            seed: of the noise.
        """
        half = torch.randn(samples // 2, len(self.center), generator=generator(seed, "smoothing"), dtype=torch.float64)
        noise = sigma * torch.cat([half, -half]).to(self.center)
        return self._evaluated(steps.to(self.center), noise).mean(1)

    def _evaluated(self, steps: Tensor, noise: Tensor) -> Tensor:
        """The losses at every step with every noise vector, (T, n)."""
        count = len(noise)
        places = torch.arange(len(steps) * count, device=steps.device)
        found = [self._at(steps[part // count], noise[part % count]) for part in places.split(MEMBERS)]
        return torch.cat(found).reshape(len(steps), count)

    def _at(self, steps: Tensor, noise: Tensor) -> Tensor:
        values = self.center + steps[:, None] * self.direction + noise  # (n, L)
        if values.device.type == "cpu":
            return over_members(self._mean_losses, values)
        return self._mean_losses(values)

    def _mean_losses(self, values: Tensor) -> Tensor:
        return image_losses(self.net, self.batch, values).mean(1)
