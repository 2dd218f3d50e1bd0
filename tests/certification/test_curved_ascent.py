"""Slopes of curves are climbed in steps small enough to gain something."""

import torch
from torch import Tensor, nn

from gls_es.certification.alpha import ASCENT, climbed
from gls_es.certification.ascent import with_best_start
from gls_es.certification.bab import CURVED_ASCENT, ascend
from gls_es.certification.branching import children
from gls_es.certification.dual import Balls, Goals
from gls_es.network import Network


def _deep_sigmoid() -> tuple[Network, Tensor]:
    """As in eran's ffnnSIGMOID: steep enough that lines differ, deep enough that the last layers' are all bent."""
    generator = torch.Generator().manual_seed(1)
    layers: list[nn.Module] = []
    for before, after in [(30, 40), (40, 40), (40, 40), (40, 40), (40, 4)]:
        layer = nn.Linear(before, after)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(after, before, generator=generator) * 4 / before**0.5)
            layer.bias.copy_(-layer.weight.sum(dim=1) / 2)
        layers += [layer, nn.Sigmoid()]
    return Network(nn.Sequential(*layers[:-1]), (30,)), torch.rand(1, 30, generator=generator).double()


def _goals() -> tuple[Balls, Goals]:
    net, x = _deep_sigmoid()
    label = net.logits(x.float())[0].argmax(dim=1)
    balls = Balls.around(net, x - 0.03, x + 0.03, label, execution="float32")
    columns = torch.arange(3)
    return balls, balls.goals(torch.zeros_like(columns), columns)


def test_the_ascent_of_roots_gains_on_every_goal() -> None:
    """A fiftieth of what the start lacks, and more: with steps ten times as large the start stays the best."""
    balls, goals = _goals()
    start = balls.proven_bounds(with_best_start(balls, balls.lower_bounds, goals))
    found = balls.proven_bounds(climbed(balls, goals, ASCENT))
    assert (found > start + 0.02 * start.abs()).all(), (start, found)


def test_the_ascent_of_parts_gains_on_most() -> None:
    """On both sides of a split of each layer's first neuron."""
    balls, goals = _goals()
    gained = []
    for layer in range(4):
        halves = children(goals, torch.full((3,), 40 * layer))
        before = balls.lower_bounds(halves).detach()
        _, after = ascend(balls.lower_bounds, halves, CURVED_ASCENT)
        gained += (after > before + 0.03 * before.abs()).tolist()
    assert sum(gained) > 0.8 * len(gained)
