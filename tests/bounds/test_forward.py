"""Heads and boxes that go forward: a chord that falls turns a box round, and does not make it negative."""

from __future__ import annotations

import torch
from torch import nn

from gls_es.bounds import deepz
from gls_es.bounds.forward import Forward
from gls_es.certification.rounding import sound_query
from gls_es.network import Network


def test_errors_before_a_falling_chord_stay_errors() -> None:
    """Hardswish falls on [-3, -1.5], where the layer before it loses much to its large weights."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 1), nn.Hardswish(), nn.Linear(1, 2))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[8192.0, -8192.0]]))
        module[0].bias.fill_(-2.25)
    x, reach = torch.full((1, 2), 0.5, dtype=torch.float64), 0.5 / 16384
    query = sound_query(Network(module, (2,)), x - reach, x + reach, execution="float32")
    deepz.preactivations(query)
    forward = Forward(query, deepz._step)
    (curve,) = query.relus
    step, before = forward.step(curve), forward.state(query.source(curve))[1]
    after = forward.state(curve)[1]
    assert float(step.scale.max()) < -0.1
    assert float(before.min()) > 1e-4
    # the image of [-b, b] under z -> s z is [-|s| b, |s| b], and errors of the activation come on top
    assert bool((after >= torch.maximum(step.scale * before, -step.scale * before)).all())
