"""A small convolutional network with normalisation in float64, a few random members, and minibatches for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gls_es.fitness import Attack, Minibatch, Stage
from gls_es.network import Network, Normalize

EPS = 0.08
CLASSES = 4
IMAGES = 6


def network() -> Network:
    torch.manual_seed(3)
    module = nn.Sequential(
        Normalize([0.4], [0.3]),
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )
    return Network(module.double(), (1, 6, 6))


def members(net: Network, count: int = 5) -> Tensor:
    center = net.parameter_vector()
    generator = torch.Generator().manual_seed(1)
    return center + 0.2 * torch.randn(count, len(center), generator=generator, dtype=center.dtype)


def minibatch(net: Network, loss: str, *, method: str = "ibp", seed: int | None = 0, **options: Any) -> Minibatch:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(IMAGES, 1, 6, 6, generator=generator, dtype=torch.float64)
    images[0, 0, 0] = 0.0  # where [0, 1] cuts the ball off
    images[1, 0, 1] = 1.0
    labels = torch.arange(IMAGES) % CLASSES
    stage = {"eps": EPS, "natural_weight": 0.0, "attack": Attack(steps=5, restarts=2)} | options
    return Minibatch.prepare(net, images, labels, Stage(method=method, loss=loss, **stage), attack_seed=seed)
