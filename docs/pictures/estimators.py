"""What PGPE and RGS estimate of a loss that jumps, against the closed form of its smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from evotorch.algorithms import PGPE
from matplotlib.figure import Figure
from torch import Tensor, nn

import gls_es
from gls_es.data import Dataset, Split
from gls_es.searchers import with_lean_population
from pictures.look import BLACK, BLUE, RED, figure_of


def toy_loss(x: Tensor) -> Tensor:
    """A jump of height 1 at 0 on a parabola whose minimum, at -1/2, lies on the wrong side of it."""
    return (x < 0).to(x.dtype) + (x + 0.5).square() / 2


class Toy(gls_es.CertifiedTrainingProblem):
    """The toy loss of the first weight as a problem, so that the searchers themselves can be asked."""

    def make_network(self) -> nn.Module:
        """A network is wanted; its two weights are all that is used of it."""
        return nn.Linear(1, 2, bias=False)

    def make_data(self) -> Dataset:
        """Data are wanted, but not looked at."""
        split = Split(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), 1.0)
        return Dataset("toy", split, split, num_classes=2)

    def losses(self, values: Tensor) -> Tensor:
        """The losses of members (n, L), (n,)."""
        return toy_loss(values.as_subclass(Tensor)[:, 0])


@dataclass(frozen=True)
class Estimates:
    """The toy loss smoothed, its gradient, and what searchers estimate.

    Attributes:
        sigma: σ.
        popsize: members of a population.
        x: (X,).
        loss: L(x), (X,).
        smoothed: L_σ(x), (X,).
        gradient: ∇L_σ(x), (X,).
        mean_gradient: E[∇L(x + e)], (X,).
        centers: where estimates were made, (C,).
        pgpe: steps of PGPE, (C, repetitions).
        rgs: steps of RGS, (C, repetitions).
    """

    sigma: float
    popsize: int
    x: Tensor
    loss: Tensor
    smoothed: Tensor
    gradient: Tensor
    mean_gradient: Tensor
    centers: Tensor
    pgpe: Tensor
    rgs: Tensor


def smoothed_toy(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """L_σ and its gradient in closed form: the normal distribution at -x / σ, and a parabola."""
    normal = torch.distributions.Normal(0.0, 1.0)
    density = normal.log_prob(x / sigma).exp() / sigma
    return normal.cdf(-x / sigma) + ((x + 0.5).square() + sigma**2) / 2, (x + 0.5) - density


@cache
def estimates(*, sigma: float = 0.3, popsize: int = 64, repetitions: int = 20) -> Estimates:
    """Steps of length one of both searchers, from every center, with other noise in every repetition.

    Args:
        sigma: σ.
        popsize: members of a population.
        repetitions: populations per center and searcher.
    """
    x = torch.linspace(-1.2, 1.2, 481, dtype=torch.float64)
    smooth, gradient = smoothed_toy(x, sigma)
    centers = torch.linspace(-1.1, 1.1, 12)
    problem = Toy()  # every step draws on from its seed, so that all populations differ
    found = {
        name: torch.tensor(
            [
                [float(center) - walk(problem, name, float(center), sigma, popsize) for _ in range(repetitions)]
                for center in centers
            ],
            dtype=torch.float64,
        )
        for name in ("pgpe", "rgs")
    }
    return Estimates(sigma, popsize, x, toy_loss(x), smooth, gradient, x + 0.5, centers.double(), **found)


def walk(
    problem: Toy, searcher: str, start: float, sigma: float, popsize: int, *, rate: float = 1.0, steps: int = 1
) -> float:
    """Where plain steps lead: center - rate · estimate, over and over. One step of rate 1 shows the estimate.

    Args:
        problem: the toy.
        searcher: "pgpe" or "rgs".
        start: the first center.
        sigma: σ.
        popsize: members of a population.
        rate: size of the steps.
        steps: how many.
    """
    center = torch.tensor([start, 0.0])
    options: dict[str, Any] = {"popsize": popsize, "center_learning_rate": rate, "optimizer": None}
    options |= {"stdev_init": sigma, "center_init": center}
    if searcher == "pgpe":
        pgpe = PGPE(problem, **options, stdev_learning_rate=0.0, ranking_method="raw")
        found = with_lean_population(pgpe)
        found.run(steps + 1)  # EvoTorch takes a step when the next population is drawn
    else:
        found = gls_es.RGS(problem, **options)
        found.run(steps)
    return float(found.status["center"][0])


def draw() -> Figure:
    """Left: the loss and its smoothing. Right: the true gradients and the estimates."""
    shown = estimates()
    figure, (left, right) = figure_of(1, 2, height=4.4)
    for side, name in ((shown.x < 0, None), (shown.x >= 0, "the loss L")):
        left.plot(shown.x[side], shown.loss[side], color=BLACK, linewidth=1.8, label=name)
    left.plot(shown.x, shown.smoothed, color=RED, linestyle="--", linewidth=2, label=f"smoothed, σ = {shown.sigma:g}")
    lowest = int(shown.smoothed.argmin())
    left.plot(shown.x[lowest], shown.smoothed[lowest], "o", color=RED, label="where PGPE comes to rest")
    left.plot(-0.5, 1.0, "s", color=BLUE, label="where RGS comes to rest")
    left.set_title("L = 1[x < 0] + (x + 1/2)² / 2")
    left.set_ylabel("loss (no unit)")
    left.set_ylim(0, 2.2)  # room for the legend
    right.plot(shown.x, shown.gradient, color=RED, linestyle="--", linewidth=2, label="gradient of the smoothed loss")
    right.plot(shown.x, shown.mean_gradient, color=BLUE, linewidth=1.5, label="mean of the gradients")
    for name, values, colour, marker in (("PGPE", shown.pgpe, RED, "o"), ("RGS", shown.rgs, BLUE, "s")):
        spread = {"yerr": values.std(1), "fmt": marker, "color": colour, "capsize": 3, "markersize": 5}
        right.errorbar(shown.centers, values.mean(1), **spread, label=f"{name}, {shown.popsize} members")
    right.axhline(0, color=BLACK, linewidth=0.8)
    right.set_title("the gradient, and what searchers estimate")
    right.set_ylabel("slope (loss per unit of x)")
    for axis in (left, right):
        axis.set_xlabel("x, the only weight (no unit)")
        axis.grid(alpha=0.3)
        axis.legend(loc="upper left")
    return figure
