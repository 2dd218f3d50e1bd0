"""Certificates of networks with activations beyond ReLU: true of what is executed, and of fine grids."""

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.bounds import margins
from gls_es.certification.rounding import outward_ball, sound_margins
from gls_es.network import Network
from tests.oracles.activations import ACTIVATIONS, SPELLINGS, conv_net, dense_net, residual_net
from tests.oracles.problems import margins_of

EVERY = ACTIVATIONS | {name: SPELLINGS[name] for name in ("max of two", "prelu by channel")}
EXECUTED = {"float32": torch.float32, "float64": torch.float64}
METHODS = ("ibp", "deepz", "crown", "best")


def _executed(module: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
    """Executed margins of points (S, B, ...), (S, B, K - 1), in float64."""
    with torch.no_grad():
        return torch.stack([margins_of(module(points[:, i]), y).double() for i, y in enumerate(labels.tolist())], 1)


@pytest.mark.parametrize("execution", EXECUTED)
@pytest.mark.parametrize("name", EVERY)
def test_no_executed_margin_is_below(name: str, execution: str) -> None:
    """With tolerance zero: at the images themselves, where nothing but rounding is bounded, and in small balls."""
    dtype = EXECUTED[execution]
    module = dense_net(EVERY[name], gain=1.5).to(dtype)
    net = Network(module, (5,))
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 5, generator=generator)
    labels = module(images.to(dtype)).argmax(1)
    for eps in (0.0, 0.03):
        lower, upper = outward_ball(images, eps)
        unit = torch.rand(40, 6, 5, generator=generator, dtype=torch.float64)
        points = images.double() + (eps * (2 * unit - 1)).clamp(-0.999 * eps, 0.999 * eps)
        seen = _executed(module, points.clamp(0, 1).to(dtype) if eps else images[None].to(dtype), labels).amin(0)
        for method in METHODS:
            sound = sound_margins(net, lower, upper, labels, method, execution=execution)
            assert (sound <= seen).all(), (eps, method)
            if eps == 0.0:  # and not for want of a bound
                assert (sound >= seen - (1e-3 if execution == "float32" else 1e-6) * (1 + seen.abs())).all(), method


@pytest.mark.parametrize("execution", [*EXECUTED, "real"])
@pytest.mark.parametrize("build", [conv_net, residual_net])
@pytest.mark.parametrize("name", ["gelu", "hardtanh", "softplus"])
def test_sound_margins_are_plain_ones_a_little_lower(name: str, build: object, execution: str) -> None:
    shape = (1, 7, 7) if build is conv_net else (4,)
    net = Network(build(EVERY[name]), shape)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(2))
    labels = net.logits(images)[0].argmax(1)
    lower, upper = outward_ball(images, 0.02)
    for method in METHODS:
        sound = sound_margins(net, lower, upper, labels, method, execution=execution)
        own = net.parameter_vector().double()[None]
        plain = margins(net, lower, upper, labels, method=method, params=own)[0].detach()
        assert (sound < plain).all(), method
        scale = 1 + float(plain.abs().max())
        slack = 1e-3 if execution == "float32" else 1e-5 if name == "softplus" else 1e-9  # its threshold is charged
        assert float((plain - sound).max()) <= slack * scale, method


def _grid(image: Tensor, eps: float, count: int) -> Tensor:
    """Points of a ball in two dimensions, its corners among them, a little inside."""
    line = torch.linspace(-0.9999, 0.9999, count)
    return (image + eps * torch.cartesian_prod(line, line)).clamp(0, 1)


@pytest.mark.parametrize("name", EVERY)
def test_certified_balls_hold_no_other_class(name: str) -> None:
    """Two inputs, so that a grid sees all; about half of the balls are close calls."""
    torch.manual_seed(3)
    layers = nn.Linear(2, 4), EVERY[name]() if "channel" not in name else nn.PReLU(4), nn.Linear(4, 4)
    module = nn.Sequential(*layers, EVERY[name]() if "channel" not in name else nn.PReLU(4), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0)
    eps = 0.08
    images = torch.rand(4, 2, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():  # a last bias for which the first image is a close call
        logits = module(_grid(images[0], eps, 41))
        gap = (logits[:, 0] - logits[:, 1]).sort().values
        module[-1].bias[0] -= gap[0] - 0.05 * (gap[-1] - gap[0])
        labels = module(images).argmax(1)
    verdicts = []
    for stages in (("ibp", "crown-ibp", "crown", "alpha", "attack"), ("best", "alpha-shared", "bab")):
        report = gls_es.certify(module, images, labels, eps, stages=stages, timeout=2.0, seed=0)
        verdicts += report.verdicts
        for verdict in report.verdicts:
            if verdict.verdict == "certified":
                with torch.no_grad():
                    seen = module(_grid(images[verdict.index], eps, 61)).argmax(1)
                assert (seen == verdict.label).all()
    assert any(verdict.verdict == "certified" for verdict in verdicts)
