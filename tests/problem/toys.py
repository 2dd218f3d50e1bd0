"""Small problems in an importable module: some on toy images, some on losses with known smoothed gradients."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gls_es.data import Dataset, Split
from gls_es.errors import DataError
from gls_es.network import Normalize
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.recipe import Recipe

CLASSES = 3
TRAIN, TEST = 20, 12


def blobs(seed: int = 0) -> Dataset:
    """Three clusters of points in the unit cube of dimension 4."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(CLASSES, 4, generator=generator)

    def split(count: int) -> Split:
        labels = torch.arange(count) % CLASSES
        points = (centers[labels] + 0.1 * torch.randn(count, 4, generator=generator)).clamp(0, 1)
        return Split(points, labels, 1.0)

    return Dataset("blobs", split(TRAIN), split(TEST), CLASSES)


def perceptron(width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, CLASSES))


class Blobs(CertifiedTrainingProblem):
    """Points in a cube, by a perceptron; nothing but the two methods a user must write.

    The second paragraph is not part of the summary.
    """

    def make_network(self) -> nn.Module:
        return perceptron()

    def make_data(self) -> Dataset:
        return blobs()


class WideBlobs(Blobs):
    """An argument of its own."""

    recipes: ClassVar[dict[str, Recipe]] = {"pgpe": Recipe(generations=40, popsize=6, ramp_until=20)}

    def __init__(self, width: int = 5, **options: Any) -> None:
        self.width = width
        super().__init__(**options)

    def make_network(self) -> nn.Module:
        return perceptron(self.width)


class ScaledBlobs(Blobs):
    """A normalisation layer, whose numbers are buffers."""

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (4, 1, 1)), Normalize([0.5] * 4, [0.25] * 4), nn.Flatten(), *perceptron())


class Outer:
    class Inner(Blobs):
        """A class within a class."""


class NotAProblem:
    """Something else."""


class Formula(CertifiedTrainingProblem):
    """A loss of the weights alone; ``size`` of them."""

    def __init__(self, size: int = 2, **options: Any) -> None:
        self.size = size
        super().__init__(**options)

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.size // 2, 2, bias=False))

    def make_data(self) -> Dataset:
        points = torch.full((2, self.size // 2), 0.5)
        return Dataset("two points", *2 * [Split(points, torch.tensor([0, 1]), 1.0)], 2)


MATRIX = torch.tensor([[2.0, 0.5, 0.0, 0.1], [0.5, 1.0, 0.3, 0.0], [0.0, 0.3, 3.0, -0.4], [0.1, 0.0, -0.4, 0.5]])
LINEAR = torch.tensor([1.0, -2.0, 0.5, 0.25])


class Quadratic(Formula):
    """1/2 x'Ax + b'x: smoothing adds a constant, the gradient stays Ax + b."""

    def __init__(self, **options: Any) -> None:
        super().__init__(4, **options)

    def losses(self, values: Tensor) -> Tensor:
        return 0.5 * ((values @ MATRIX) * values).sum(1) + values @ LINEAR


def quadratic_gradient(center: Tensor) -> Tensor:
    return MATRIX @ center + LINEAR


class Cubic(Formula):
    """The sum of k x^3; smoothed gradient 3 k (x^2 + σ^2)."""

    COEFFICIENTS: ClassVar[Tensor] = torch.tensor([1.0, -0.5])

    def losses(self, values: Tensor) -> Tensor:
        return (self.COEFFICIENTS * values**3).sum(1)


class Skewed(Formula):
    """exp(2x) + (y - 1)^2 / 2; smoothed gradient (2 exp(2x + 2σ^2), y - 1)."""

    def losses(self, values: Tensor) -> Tensor:
        return torch.exp(2 * values[:, 0]) + 0.5 * (values[:, 1] - 1) ** 2


class Jump(Formula):
    """1 where x < 0, else 0: the smoothed gradient is -φ(x/σ)/σ, the gradient is 0 wherever there is one."""

    def losses(self, values: Tensor) -> Tensor:
        return (values[:, 0] < 0).float() + 0.0 * values.sum(1)


class Hole(Formula):
    """-x, not finite beyond the wall x = 1: a descent that runs into it."""

    OUTSIDE: ClassVar[float] = float("nan")

    def losses(self, values: Tensor) -> Tensor:
        return torch.where(values[:, 0] > 1, self.OUTSIDE, -values[:, 0])


class InfiniteHole(Hole):
    """The same with minus infinity, the best of all losses to who compares only."""

    OUTSIDE: ClassVar[float] = float("-inf")


class Root(Formula):
    """The square root of the first weight: where it is negative, loss and gradient are NaN."""

    def losses(self, values: Tensor) -> Tensor:
        return values[:, 0].sqrt() + values[:, 1]


class Scripted(Formula):
    """Losses by the member's index, from the attribute ``script``."""

    script: Tensor

    def losses(self, values: Tensor) -> Tensor:
        return self.script + 0.0 * values.nan_to_num().sum(1)


class Flat(Formula):
    """The same loss everywhere."""

    def losses(self, values: Tensor) -> Tensor:
        return 1.0 + 0.0 * values.sum(1)


class Doomed(Blobs):
    """Some losses are NaN in generation 1, all from generation 3 on."""

    def losses(self, values: Tensor) -> Tensor:
        losses = super().losses(values)
        if self.generation >= 3:
            return losses * torch.nan
        if self.generation == 1:
            losses[0] = torch.nan
            losses[3] = torch.inf
        return losses


class Endless(Blobs):
    """A generation that takes minutes, in the main thread and in another one; it says when it has begun."""

    def losses(self, values: Tensor) -> Tensor:
        print("asleep", file=sys.stderr, flush=True)
        threading.Thread(target=time.sleep, args=(300,)).start()
        time.sleep(300)
        return super().losses(values)


class Marked(Blobs):
    """BatchNorm, and a second actor that dies, or fails, in generation 2 if a file in ``folder`` says so."""

    def __init__(self, folder: str = "", **options: Any) -> None:
        self.folder = folder
        super().__init__(**options)

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES))

    def losses(self, values: Tensor) -> Tensor:
        if self.is_remote and self.actor_index == 1 and self.generation == 2:
            if (Path(self.folder) / "die").exists():
                os._exit(1)
            if (Path(self.folder) / "stumble").exists():
                raise DataError("the images are gone")
            if (Path(self.folder) / "crash").exists():
                raise ValueError("what is this")
        return super().losses(values)


class Counting(Blobs):
    """Takes down the minibatch that each member's loss was computed on."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[tuple[int, Tensor, int]] = []
        super().__init__(**options)

    def losses(self, values: Tensor) -> Tensor:
        self.seen.append((self.generation, self.minibatch.images.clone(), len(values)))
        return super().losses(values)


def options(**changes: Any) -> dict[str, Any]:
    """Recipe overrides for runs that end at once."""
    small = {"popsize": 6, "batch_size": 8, "ramp_until": 5, "natural_until": 2, "evaluate_every": 4}
    return small | changes
