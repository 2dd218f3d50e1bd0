"""Makes the pictures of docs/concepts.md, in docs/figures/ or in a folder that is named, in about half a minute.

    python docs/make_figures.py [FOLDER]

Every picture has a function that computes what is shown, with the code of gls_es itself wherever there is some, and one
that draws it. What the page says of a picture is a statement about the computed numbers, which a test checks. The same
versions of everything make the same files, byte for byte: noise is seeded, and nothing is dated.
"""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from evotorch.algorithms import PGPE
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

import gls_es
from gls_es.bounds.relaxation import LowerSlope, adaptive, enclose, same
from gls_es.data import Dataset, Split
from gls_es.fitness import Minibatch, Stage
from gls_es.landscape import Line, Statistics, random_direction, statistics
from gls_es.landscape.statistics import HALVINGS, jump_heights
from gls_es.searchers import with_lean_population
from gls_es.training import load_trained

FIGURES = Path(__file__).with_name("figures")
WIDTH = 8.0  # inches: 10 points of text are 14 pixels when a picture is shown 800 pixels wide

# The colours of Okabe and Ito, which the colour blind tell apart; line styles and markers do it in grey.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#808080"
LOOK: dict[Any, Any] = {
    "font.size": 10,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the first one that a viewer has
    "axes.titlesize": 11,
    "legend.fontsize": 9,
    "legend.framealpha": 0.9,
    "svg.fonttype": "none",  # text stays text: short files, and words that can be found
}
STYLES: dict[str, dict[str, Any]] = {
    "ibp": {"color": ORANGE, "linestyle": "--", "marker": "o"},
    "hbox": {"color": SKY, "linestyle": (0, (3, 1, 1, 1)), "marker": "s"},
    "crown-ibp": {"color": PURPLE, "linestyle": "-.", "marker": "^"},
    "deepz": {"color": GREEN, "linestyle": ":", "marker": "D"},
    "crown": {"color": BLUE, "linestyle": "-", "marker": "v"},
    "best": {"color": RED, "linestyle": (0, (6, 1)), "marker": "*"},
}


# -- the relaxations of one neuron ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Enclosure:
    """What a relaxation makes of relu on [l, u]: two lines, each a slope and an offset.

    Attributes:
        name: whose it is.
        lower: l, the input's lower bound.
        upper: u, its upper bound.
        above: slope and offset of the line above.
        below: slope and offset of the line below.
    """

    name: str
    lower: float
    upper: float
    above: tuple[float, float]
    below: tuple[float, float]

    def gap(self, z: float) -> float:
        """The height between the lines at z."""
        return (self.above[0] - self.below[0]) * z + self.above[1] - self.below[1]

    @property
    def area(self) -> float:
        """The area between the lines; the gap is linear, so its mean is that of its ends."""
        return (self.upper - self.lower) * (self.gap(self.lower) + self.gap(self.upper)) / 2


def enclosures() -> list[Enclosure]:
    """The interval, CROWN's lines on both sides of its switch, and DeepZ's, in the order of the panels."""
    box = Enclosure("ibp: a box", -1.0, 1.5, (0.0, 1.5), (0.0, 0.0))  # relu of the interval's ends
    return [
        box,
        _enclosure("crown, u > -l: λ = 1", -1.0, 1.5, adaptive),
        _enclosure("crown, u < -l: λ = 0", -1.5, 1.0, adaptive),
        _enclosure("deepz and crown-same: λ = s", -1.0, 1.5, same),
    ]


def _enclosure(name: str, lower: float, upper: float, rule: LowerSlope) -> Enclosure:
    low, high = (torch.tensor([[end]], dtype=torch.float64) for end in (lower, upper))
    lines = enclose(low, high, None, rule)
    mean, half, mean_offset, half_offset = (
        float(v) for v in (lines.mean, lines.half, lines.mean_offset, lines.half_offset)
    )
    above, below = (mean + half, mean_offset + half_offset), (mean - half, mean_offset - half_offset)
    return Enclosure(name, lower, upper, above, below)


def draw_relaxations() -> Figure:
    """Four panels: relu, the two lines, and what lies between them."""
    figure, axes = _figure(2, 2, height=5.4, sharex=True, sharey=True)
    for axis, shown in zip(axes.flat, enclosures(), strict=True):
        ends = (shown.lower, shown.upper)
        above, below = ([slope * z + offset for z in ends] for slope, offset in (shown.above, shown.below))
        axis.fill_between(ends, below, above, color=SKY, alpha=0.3, linewidth=0)
        axis.plot([-1.8, 0, 1.8], [0, 0, 1.8], color=BLACK, linewidth=2.2, label="relu(z)")
        axis.plot(ends, above, color=RED, linestyle="--", linewidth=1.8, label="line above")
        axis.plot(ends, below, color=BLUE, linestyle="-.", linewidth=1.8, label="line below")
        for name, end in zip("lu", ends, strict=True):
            axis.axvline(end, color=GREY, linestyle=":", linewidth=1)
            axis.annotate(name, (end, -1.25), xytext=(4, 0), textcoords="offset points", color="#404040")
        axis.set_title(f"{shown.name} (area {shown.area:.2f})")
        axis.set_ylim(-1.4, 2.0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for axis in axes[1]:
        axis.set_xlabel("z, the ReLU's input (no unit)")
    for axis in axes[:, 0]:
        axis.set_ylabel("the ReLU's output (no unit)")
    return figure


# -- how tight bounds are ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tightness:
    """A network with two inputs and three classes around one input, of which every value can be seen.

    Attributes:
        eps: the radius of the box in ``image`` and ``corners``.
        image: both margins along the lines of a grid in the box, (lines, points, 2).
        corners: lower bounds of both margins on the box, by method.
        radii: radii, (R,).
        least: the least margin that a dense grid in each box finds, (R,).
        bounds: lower bounds of the least margin on each box, (R,), by method.
    """

    eps: float
    image: Tensor
    corners: dict[str, tuple[float, float]]
    radii: Tensor
    least: Tensor
    bounds: dict[str, Tensor]


@cache
def tightness(*, eps: float = 0.2, largest: float = 0.25, points: int = 301) -> Tightness:
    """The bounds of every method in :data:`STYLES` against the values themselves.

    Args:
        eps: radius of the box whose image is drawn.
        largest: the largest radius.
        points: of the dense grid along each axis; odd, so that its middle is the input itself.
    """
    net, center, label = _small_network()
    side = torch.linspace(-1, 1, points, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    radii = torch.linspace(0, largest, 33, dtype=torch.float64)[1:]
    boxes = radii[:, None]
    labels = label.expand(len(radii))
    found = {m: gls_es.bounds.margins(net, center - boxes, center + boxes, labels, method=m)[0] for m in STYLES}
    corner = {m: gls_es.bounds.margins(net, center - eps, center + eps, label, method=m)[0, 0] for m in STYLES}
    along = torch.linspace(-1, 1, 9, dtype=torch.float64)
    lines = torch.cartesian_prod(along, side).reshape(len(along), points, 2)
    return Tightness(
        eps=eps,
        image=_margins(net, center + eps * torch.cat([lines, lines.flip(2)]), label),
        corners={method: (float(both[0]), float(both[1])) for method, both in corner.items()},
        radii=radii,
        least=torch.stack([_margins(net, center + radius * grid, label).min() for radius in radii]),
        bounds={method: both.min(1).values for method, both in found.items()},
    )


def _small_network() -> tuple[gls_es.Network, Tensor, Tensor]:
    """Two hidden layers of eight ReLUs with random weights, the input (1, 2), and its class (1,)."""
    noise = torch.Generator().manual_seed(24)
    layers: list[nn.Module] = []
    for inputs, outputs in ((2, 8), (8, 8), (8, 3)):
        layer = nn.Linear(inputs, outputs).double()
        nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs), generator=noise)
        nn.init.normal_(layer.bias, std=0.3, generator=noise)
        layers += [layer, nn.ReLU()]
    net = gls_es.Network(nn.Sequential(*layers[:-1]), input_shape=(2,))
    center = torch.full((1, 2), 0.5, dtype=torch.float64)
    return net, center, net.logits(center)[0].argmax(1)


def _margins(net: gls_es.Network, inputs: Tensor, label: Tensor) -> Tensor:
    """f_y - f_j at inputs (..., 2), for the two other classes j, (..., 2)."""
    logits = net.logits(inputs.reshape(-1, 2))[0].detach()
    others = [j for j in range(3) if j != int(label)]
    return (logits[:, [int(label)]] - logits[:, others]).reshape(inputs.shape)


def draw_tightness() -> Figure:
    """Left: the image of the box and each method's corner. Right: the least margin against the radius."""
    shown = tightness()
    figure, (left, right) = _figure(1, 2, height=4.6)
    for line in shown.image:
        left.plot(*line.T, color=GREY, linewidth=0.7, zorder=1)
    top = [float(v) for v in shown.image.amax((0, 1))]
    for method, (first, second) in shown.corners.items():
        style = STYLES[method]
        left.plot([first, first, top[0]], [top[1], second, second], **{**style, "marker": ""}, linewidth=1.6)
        left.plot([first], [second], color=style["color"], marker=style["marker"], markersize=7, zorder=3)
    left.axhline(0, color=BLACK, linewidth=0.8)
    left.set_title(f"all values at ε = {shown.eps:g}, and the bounds")
    left.set_xlabel("margin over the second class (logits)")
    left.set_ylabel("margin over the third class (logits)")
    right.plot(shown.radii, shown.least, color=BLACK, linewidth=2.4, label="the network (dense grid)")
    for method, values in shown.bounds.items():
        right.plot(shown.radii, values, **STYLES[method], linewidth=1.6, markevery=6, markersize=5, label=method)
    right.axhline(0, color=BLACK, linewidth=0.8)
    right.set_title("least margin: positive means certified")
    right.set_xlabel("radius ε (input units)")
    right.set_ylabel("least margin in the box (logits)")
    right.legend(loc="lower left")
    return figure


# -- the loss along a line through the weights ------------------------------------------------------------------------


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


def draw_landscape() -> Figure:
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


# -- what the two estimators see --------------------------------------------------------------------------------------


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


def draw_estimators() -> Figure:
    """Left: the loss and its smoothing. Right: the true gradients and the estimates."""
    shown = estimates()
    figure, (left, right) = _figure(1, 2, height=4.4)
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


# -- files ------------------------------------------------------------------------------------------------------------

DRAWINGS: dict[str, Callable[[], Figure]] = {
    "relaxations.svg": draw_relaxations,
    "tightness.svg": draw_tightness,
    "landscape.svg": draw_landscape,
    "estimators.svg": draw_estimators,
}
"""Every file and what draws it."""


def _figure(rows: int, columns: int, *, height: float, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def main(folder: Path = FIGURES) -> list[Path]:
    """Draw every picture into a folder, which is made if need be; the paths."""
    torch.set_num_threads(1)  # sums in one order
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in DRAWINGS.items():
        with rc_context({**LOOK, "svg.hashsalt": name}):
            paths.append(folder / name)
            paths[-1].write_text(_svg(draw()), encoding="utf-8")
    return paths


def _svg(figure: Figure) -> str:
    """The picture as text, shorter than matplotlib writes it: two decimals of a point in tags, no indentation."""
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), target.getvalue())
    return "".join(f"{line.strip()}\n" for line in text.splitlines())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
