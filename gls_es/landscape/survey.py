"""One picture of a trained network's losses: several relaxations, lines and smoothings, with statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gls_es.bounds import method_named
from gls_es.errors import ConfigError
from gls_es.fitness import Minibatch, Stage, mean_gradient
from gls_es.landscape.directions import gradient_direction, random_direction
from gls_es.landscape.lines import Line
from gls_es.landscape.statistics import Statistics, statistics
from gls_es.landscape.zoom import zoomed
from gls_es.network import Network

DIRECTIONS = ("random", "gradient")


@dataclass(frozen=True)
class Curve:
    """The loss on one line.

    Attributes:
        method: the relaxation.
        direction: "random" or "gradient".
        sigma: standard deviation of the smoothing noise; 0 for the loss itself.
        losses: at every step, (T,).
    """

    method: str
    direction: str
    sigma: float
    losses: Tensor


@dataclass(frozen=True)
class Zoom:
    """The loss close to its largest jump, where the jump is as high as what the loss does beside it.

    Attributes:
        method: the relaxation.
        direction: "random" or "gradient".
        place: where the jump is, t.
        steps: t, (Z,), ascending; the jump is between the two steps in the middle.
        losses: at each of them, (Z,).
    """

    method: str
    direction: str
    place: float
    steps: Tensor
    losses: Tensor


@dataclass(frozen=True)
class Landscape:
    """All curves and statistics.

    Attributes:
        eps: radius of the boxes.
        images: how many images the losses are means of.
        steps: t, (T,), in units of the weights' norm (of each parameter tensor for random directions).
        curves: by method, direction and σ.
        statistics: of the raw losses, by direction.
        zooms: on the largest jump, for every method and direction that has one.
    """

    eps: float
    images: int
    steps: Tensor
    curves: tuple[Curve, ...]
    statistics: dict[str, tuple[Statistics, ...]]
    zooms: tuple[Zoom, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The landscape as plain values."""
        return {
            "eps": self.eps,
            "images": self.images,
            "steps": self.steps.tolist(),
            "curves": [{**vars(curve), "losses": curve.losses.tolist()} for curve in self.curves],
            "statistics": {name: [asdict(one) for one in found] for name, found in self.statistics.items()},
            "zooms": [
                {**vars(zoom), "steps": zoom.steps.tolist(), "losses": zoom.losses.tolist()} for zoom in self.zooms
            ],
        }


def survey(
    net: Network,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    methods: Sequence[str] = ("ibp", "crown-ibp", "crown"),
    directions: Sequence[str] = DIRECTIONS,
    sigmas: Sequence[float] = (0.01, 0.03),
    span: float = 0.2,
    points: int = 101,
    samples: int = 32,
    seed: int = 0,
    say: Callable[[str], None] = lambda _line: None,
) -> Landscape:
    """The losses around a network's weights, in float64.

    Args:
        net: the network with its trained weights.
        images: (B, *input_shape), in [0, 1].
        labels: (B,).
        eps: radius in pixel units.
        methods: relaxations.
        directions: among :data:`DIRECTIONS`; the gradient is that of each method's own loss.
        sigmas: absolute standard deviations to smooth with.
        span: t goes from -span to span.
        points: how many t; at least 3.
        samples: noise vectors per smoothed point; even.
        seed: of the random direction and the noise.
        say: told what is evaluated.

    Raises:
        ConfigError: a name or number that makes no sense.
    """
    _check(methods, directions, sigmas, span=span, points=points, samples=samples)
    steps = torch.linspace(-span, span, points, dtype=torch.float64)
    center = net.parameter_vector().double()
    curves: list[Curve] = []
    zooms: list[Zoom] = []
    found: dict[str, list[Statistics]] = {name: [] for name in directions}
    for method in methods:
        batch = Minibatch.prepare(net, images.to(center), labels, Stage(eps, 0.0, method))
        for name in directions:
            say(f"{method}, {name} direction")
            line = Line(net, batch, center, _direction(name, net, batch, center, seed=seed))
            raw = line.losses(steps)
            curves.append(Curve(method, name, 0.0, raw))
            known = statistics(line, steps, raw)
            found[name].append(known)
            if known.places:
                zooms.append(Zoom(method, name, known.places[0], *zoomed(line, steps, raw, known)))
            curves += [
                Curve(method, name, sigma, line.smoothed(steps, sigma, samples=samples, seed=seed)) for sigma in sigmas
            ]
    rows = {name: tuple(rows) for name, rows in found.items()}
    return Landscape(eps, len(images), steps, tuple(curves), rows, tuple(zooms))


def _direction(name: str, net: Network, batch: Minibatch, center: Tensor, *, seed: int) -> Tensor:
    if name == "random":
        return random_direction(net, center, seed=seed)
    return gradient_direction(center, mean_gradient(net, batch, center[None])[1])


def _check(
    methods: Sequence[str],
    directions: Sequence[str],
    sigmas: Sequence[float],
    *,
    span: float,
    points: int,
    samples: int,
) -> None:
    for method in methods:
        method_named(method)
    unknown = set(directions) - set(DIRECTIONS)
    if unknown or not methods or not directions:
        raise ConfigError(f"choose relaxations, and directions among {', '.join(DIRECTIONS)}.")
    if any(not 0 < sigma < float("inf") for sigma in sigmas):
        raise ConfigError("every sigma must be a number greater than 0.")
    if not 0 < span < float("inf") or points < 3 or samples < 2 or samples % 2:
        raise ConfigError("span must be greater than 0, points at least 3, samples even and at least 2.")
