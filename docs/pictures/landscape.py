"""The loss along a line through the weights, raw and smoothed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gls_es.fitness import Minibatch, Stage
from gls_es.landscape import Line, Statistics, random_direction, statistics
from gls_es.landscape.statistics import HALVINGS, jump_heights
from gls_es.training import load_trained
from pictures.look import BLUE, GREEN, GREY, RED, STYLES, WIDTH


@dataclass(frozen=True)
class Roughness:
    """The robust loss of zoo:digits-cnn3 on the line θ + t d.

    Attributes:
        steps: t, (T,).
        coarse: every fourth of them, (C,).
        losses: L(θ + t d) by method, (T,) each.
        statistics: jumps and more, by method.
        place: the t of the largest jump of ``crown``.
        near: distances from that t, (N,).
        close: the losses there by method, less the first of them, (N,) each.
        smoothed: L_σ(θ + t d) under ``crown`` by σ, (C,) each.
        size: root mean square of the weights, to compare σ with.
    """

    steps: Tensor
    coarse: Tensor
    losses: dict[str, Tensor]
    statistics: dict[str, Statistics]
    place: float
    near: Tensor
    close: dict[str, Tensor]
    smoothed: dict[float, Tensor]
    size: float


@cache
def roughness(*, sigmas: tuple[float, ...] = (0.003, 0.01, 0.03), points: int = 161, samples: int = 64) -> Roughness:
    """The loss of ``ibp`` and ``crown`` on 16 held-out images at ε = 0.1, in float64, along a random direction.

    Args:
        sigmas: standard deviations to smooth with.
        points: how many t; a fourth of them are smoothed.
        samples: noise vectors for a smoothed point; the same for all points.
    """
    trained = load_trained("zoo:digits-cnn3")
    net = trained.network
    images, labels = trained.dataset().test.batch(slice(0, 16))
    center = net.parameter_vector().double()
    direction = random_direction(net, center, seed=0)
    batches = {m: Minibatch.prepare(net, images.double(), labels, Stage(0.1, 0.0, m)) for m in ("ibp", "crown")}
    lines = {method: Line(net, batch, center, direction) for method, batch in batches.items()}
    steps = torch.linspace(-0.05, 0.05, points, dtype=torch.float64)
    losses = {method: line.losses(steps) for method, line in lines.items()}
    place = _largest_jump(lines["crown"], steps, losses["crown"])
    near = torch.linspace(-1e-9, 1e-9, 20, dtype=torch.float64)
    close = {method: line.losses(place + near) for method, line in lines.items()}
    return Roughness(
        steps=steps,
        coarse=steps[::4],
        losses=losses,
        statistics={method: statistics(line, steps, losses[method]) for method, line in lines.items()},
        place=place,
        near=near,
        close={method: values - values[0] for method, values in close.items()},
        smoothed={s: lines["crown"].smoothed(steps[::4], s, samples=samples, seed=0) for s in sigmas},
        size=float(center.square().mean().sqrt()),
    )


def _largest_jump(line: Line, steps: Tensor, losses: Tensor) -> float:
    """The t of the largest jump among the 16 intervals with the largest differences."""
    chosen = losses.diff().abs().topk(16).indices
    heights = jump_heights(line, steps[chosen], steps[chosen + 1], losses[chosen], losses[chosen + 1])
    at = int(chosen[heights.abs().argmax()])
    ends, values = [float(steps[at]), float(steps[at + 1])], [float(losses[at]), float(losses[at + 1])]
    for _ in range(HALVINGS):
        middle = sum(ends) / 2
        between = float(line.losses(torch.tensor([middle], dtype=torch.float64)))
        part = 1 if abs(between - values[0]) >= abs(values[1] - between) else 0
        ends[part], values[part] = middle, between
    return sum(ends) / 2


def way_back(losses: Tensor) -> float:
    """How far a loss goes the wrong way on both slopes of its valley: what falls when walking away from the minimum."""
    lowest = int(losses.argmin())
    left, right = losses[: lowest + 1].flip(0), losses[lowest:]
    return float(sum(side.diff().clamp(max=0).abs().sum() for side in (left, right)))


def draw() -> Figure:
    """Above: the raw losses. Below: the largest jump, magnified; and the smoothed loss."""
    shown = roughness()
    figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
    axes = figure.subplot_mosaic([["raw", "raw"], ["jump", "smooth"]])
    raw, jump, smooth = axes["raw"], axes["jump"], axes["smooth"]
    for method, losses in shown.losses.items():
        raw.plot(shown.steps, losses, **{**STYLES[method], "marker": ""}, linewidth=1.8, label=method)
        jump.plot(1e9 * shown.near, shown.close[method], **{**STYLES[method], "linestyle": ""}, label=method)
    raw.axvline(shown.place, color=GREY, linestyle=":", label="the jump below")
    raw.set_title("zoo:digits-cnn3, robust loss at θ + t d, ε = 0.1")
    jump.set_title("around that jump")
    jump.margins(y=0.2)
    jump.set_xlabel("t - place of the jump (1e-9)")
    jump.set_ylabel("change of the loss (nats)")
    smooth.plot(shown.steps, shown.losses["crown"], color=GREY, linewidth=1.0, label="crown")
    styles = ((BLUE, ":"), (GREEN, "--"), (RED, "-"))
    for (colour, style), (sigma, values) in zip(styles, shown.smoothed.items(), strict=True):
        smooth.plot(shown.coarse, values, color=colour, linestyle=style, linewidth=1.8, label=f"σ = {sigma:g}")
    smooth.set_title("crown, smoothed")
    for axis in (raw, smooth):
        axis.set_xlabel("t (1 = the norm of the weights)")
        axis.set_ylabel("robust loss (nats)")
    for axis in axes.values():
        axis.legend(loc="best")
        axis.grid(alpha=0.3)
    return figure
