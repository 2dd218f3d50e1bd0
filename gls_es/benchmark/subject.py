"""What is timed: a network, boxes around images, and a population of weight vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gls_es.errors import ConfigError, DataError, GlsEsError
from gls_es.network import Network
from gls_es.problem import CertifiedTrainingProblem, registry

SHAPES = ((1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 8, 8))
"""Image shapes to try for a problem whose data are missing: those of the usual data sets."""

SIGMA = 0.01
"""Standard deviation of the population around the network's own weights."""


@dataclass(frozen=True)
class Subject:
    """One benchmark's input, on one device.

    Attributes:
        net: the network.
        lower: lower ends of the boxes, (B, *input_shape).
        upper: their upper ends.
        labels: (B,).
        params: the population, (P, L).
        eps: the radius; the boxes are clipped to [0, 1].
    """

    net: Network
    lower: Tensor
    upper: Tensor
    labels: Tensor
    params: Tensor
    eps: float

    @classmethod
    def around(cls, net: Network, images: Tensor, labels: Tensor, *, eps: float, params: Tensor) -> Subject:
        """Balls of radius ``eps`` around images in [0, 1]."""
        return cls(net, (images - eps).clamp(min=0.0), (images + eps).clamp(max=1.0), labels, params, eps)

    @property
    def images(self) -> Tensor:
        """Points in the boxes."""
        return (self.lower + self.upper) / 2

    @property
    def size(self) -> int:
        """Members times images."""
        return len(self.params) * len(self.labels)

    def to(self, device: torch.device | str) -> Subject:
        """The same on a device."""
        lower, upper, labels, params = (v.to(device) for v in (self.lower, self.upper, self.labels, self.params))
        return Subject(self.net, lower, upper, labels, params, self.eps)

    def first_members(self, count: int) -> Subject:
        """The same for the first members only."""
        return Subject(self.net, self.lower, self.upper, self.labels, self.params[:count], self.eps)


def population(center: Tensor, members: int, *, sigma: float = SIGMA, seed: int = 0) -> Tensor:
    """``members`` normal perturbations of ``center`` (L,): (members, L)."""
    noise = torch.randn(members, len(center), generator=torch.Generator().manual_seed(seed))
    return center + sigma * noise.to(center)


def random_images(shape: tuple[int, ...], count: int, *, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Uniform pixels (count, *shape), and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.rand(count, *shape, generator=generator), labels


def problem_images(problem: CertifiedTrainingProblem, count: int) -> tuple[Tensor, Tensor, str]:
    """Training images and labels, repeated if there are too few, and where they come from: "training" or "random".

    Random ones stand in where the data are missing.
    """
    net = problem.network
    try:
        train = problem.data.train
    except DataError:
        return *random_images(net.input_shape, count, classes=net.num_classes), "random"
    images, labels = train.batch(torch.arange(count) % len(train), dtype=torch.float32)
    return images, labels, "training"


def open_problem(name: str, **arguments: Any) -> CertifiedTrainingProblem:
    """The problem called ``name``; where its data are missing, with the image shape of a usual data set that fits.

    Args:
        name: what ``gls-es train --problem`` takes.
        arguments: of the problem's constructor; None is left out.

    Raises:
        ConfigError: there is no such problem, or no usual image shape fits its network.
    """
    cls = registry.resolve(name)
    given = {key: value for key, value in arguments.items() if value is not None}
    try:
        return cls(**given)
    except DataError as error:
        missing = error
    for shape in SHAPES:
        try:
            return cls.rebuilt(given, shape)
        except (GlsEsError, RuntimeError):  # its layers do not fit this shape
            continue
    raise ConfigError(
        f"problem {name!r}: its data are missing ({missing}), and no usual image shape fits."
    ) from missing
