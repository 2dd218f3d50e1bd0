"""How tight bounds are: every method against all values of a network with two inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import gls_es
from pictures.look import BLACK, GREY, STYLES, figure_of


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
    net, center, label = small_network()
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
        image=margins(net, center + eps * torch.cat([lines, lines.flip(2)]), label),
        corners={method: (float(both[0]), float(both[1])) for method, both in corner.items()},
        radii=radii,
        least=torch.stack([margins(net, center + radius * grid, label).min() for radius in radii]),
        bounds={method: both.min(1).values for method, both in found.items()},
    )


def small_network() -> tuple[gls_es.Network, Tensor, Tensor]:
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


def margins(net: gls_es.Network, inputs: Tensor, label: Tensor) -> Tensor:
    """f_y - f_j at inputs (..., 2), for the two other classes j, (..., 2)."""
    logits = net.logits(inputs.reshape(-1, 2))[0].detach()
    others = [j for j in range(3) if j != int(label)]
    return (logits[:, [int(label)]] - logits[:, others]).reshape(inputs.shape)


def draw() -> Figure:
    """Left: the image of the box and each method's corner. Right: the least margin against the radius."""
    shown = tightness()
    figure, (left, right) = figure_of(1, 2, height=4.6)
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
