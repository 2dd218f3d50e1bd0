"""Certified training of two interleaved half-moons with EvoTorch's own PGPE and logger; certificates at the end.

    python examples/train_with_evotorch.py

The problem is an ordinary EvoTorch problem: its data are points in the plane, its radius grows during the run, and
nothing but losses is asked of it. Takes about ten seconds.
"""

from __future__ import annotations

import math

import torch
from evotorch.algorithms import PGPE
from evotorch.logging import PandasLogger, StdOutLogger
from torch import nn

import gls_es
from gls_es.data import Dataset, Split
from gls_es.fitness import Stage


class Moons(gls_es.CertifiedTrainingProblem):
    """Which of two half-moons does a point in the unit square belong to?"""

    eps = 0.03
    method = "crown"

    def make_network(self) -> nn.Module:
        """Two hidden layers; the points are in [0, 1], as pixels are."""
        return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))

    def make_data(self) -> Dataset:
        """The same points every time."""
        return Dataset("moons", moons(400, seed=0), moons(200, seed=1), num_classes=2)


def moons(n: int, *, seed: int) -> Split:
    """Points (n, 2) on two half-circles with some noise, and which one each lies on."""
    noise = torch.Generator().manual_seed(seed)
    angle, labels = math.pi * torch.rand(n, generator=noise), torch.arange(n) % 2
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    points = torch.where(labels[:, None] == 0, upper, torch.tensor([1.0, 0.5]) - upper)
    points = points + 0.05 * torch.randn(n, 2, generator=noise)
    return Split(((points + torch.tensor([1.5, 1.25])) / torch.tensor([4.0, 3.0])).clamp(0, 1), labels, 1.0)


def main(generations: int = 300, popsize: int = 64) -> tuple[list[float], gls_es.CertificationReport]:
    """Train and certify; the mean loss of every generation, and the report about the 200 test points."""
    problem = Moons(batch_size=100, seed=0)
    ramp = generations / 2
    problem.stages = lambda generation: Stage(problem.eps * min(1.0, generation / ramp), 0.0, problem.method)
    searcher = PGPE(
        problem,
        popsize=popsize,
        center_learning_rate=0.03,
        stdev_learning_rate=0.0,  # a fixed σ: the smoothing stays what was asked for
        stdev_init=0.05,
        optimizer="adam",
        ranking_method="raw",  # ranks would follow another objective than the smoothed loss
    )
    log = PandasLogger(searcher)
    StdOutLogger(searcher, interval=max(1, generations // 5))
    searcher.run(generations)
    test, labels = problem.data.test.batch()
    report = gls_es.certify(problem.network.module(searcher.status["center"]), test, labels, eps=problem.eps)
    print(f"certified: {report.certified_accuracy:.1%} of {report.n} points at radius {problem.eps}; {report.counts}")
    return log.to_dataframe(index=None)["mean_eval"].tolist(), report


if __name__ == "__main__":
    main()
