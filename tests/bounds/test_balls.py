"""Bounds on L2 balls: against sampled points, closed forms, a dense scan of a plane, and the boxes around the balls."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.bounds import METHODS, Box, Perturbation, box_margins, box_preactivations, entry_box, perturbation_of
from gls_es.errors import ConfigError
from tests.oracles.nets import ZOO, Case, population

BALLS = [name for name, method in METHODS.items() if method.balls and name != "deeppoly"]
IMAGES, LABELS = 2, torch.tensor([0, 1])


def asked(case: Case, members: int = 1) -> tuple[gls_es.Network, Tensor, Tensor]:
    module = case.build().double()
    net = gls_es.Network(module, case.input_shape)
    generator = torch.Generator().manual_seed(3)
    centre = torch.rand(IMAGES, *case.input_shape, generator=generator, dtype=torch.float64)
    return net, centre, population(module, members, sigma=0.05).double()


def sphere(centre: Tensor, eps: float, count: int) -> Tensor:
    """(count, B, *shape): points of the balls, half of them on the rim, some along single pixels."""
    generator = torch.Generator().manual_seed(4)
    u = torch.randn(count, *centre.shape, generator=generator, dtype=torch.float64)
    flat = u.flatten(2)
    flat[: count // 4] *= torch.rand(flat[: count // 4].shape, generator=generator, dtype=torch.float64) ** 8
    flat /= flat.norm(dim=2, keepdim=True)
    flat[count // 2 :] *= torch.rand(count - count // 2, 1, 1, generator=generator, dtype=torch.float64)
    return centre + eps * u


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """(..., B, K - 1) of (..., B, K)."""
    rows = [row[..., label : label + 1] - row for row, label in zip(logits.unbind(-2), labels.tolist(), strict=True)]
    kept = [torch.cat([r[..., :y], r[..., y + 1 :]], -1) for r, y in zip(rows, labels.tolist(), strict=True)]
    return torch.stack(kept, -2)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("case", ZOO, ids=lambda c: c.name)
def test_no_point_of_a_ball_escapes(case: Case, method: str) -> None:
    net, centre, params = asked(case, members=2)
    eps = 3 * case.eps
    box = entry_box(net, Perturbation("l2").around(centre, eps))
    found = box_margins(net, box, LABELS, params, method=method)
    points = sphere(centre, eps, 200)
    reached = torch.stack([net.logits(x, params) for x in points])
    assert (found <= margins(reached, LABELS).amin(0) + 1e-9).all()
    for lower, upper in box_preactivations(net, box, params, method=method):
        assert (lower <= upper + 1e-12).all()


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("case", ZOO, ids=lambda c: c.name)
def test_a_ball_is_never_worse_than_its_box_by_intervals(case: Case, method: str) -> None:
    net, centre, params = asked(case)
    ball = entry_box(net, Perturbation("l2").around(centre, case.eps))
    box = entry_box(net, Box.between(centre - case.eps, centre + case.eps))
    tighter = box_margins(net, ball, LABELS, params, method=method)
    looser = box_margins(net, box, LABELS, params, method="ibp")
    if method == "ibp":
        assert (tighter >= looser - 1e-9 * (1 + looser.abs())).all()
    first = box_preactivations(net, ball, params, method=method)[:1]
    for (low, high), (least, most) in zip(first, box_preactivations(net, box, params, method="ibp")[:1], strict=True):
        assert (low >= least - 1e-9).all()
        assert (high <= most + 1e-9).all()


@pytest.mark.parametrize("case", [c for c in ZOO if c.affine], ids=lambda c: c.name)
def test_affine_networks_are_bounded_exactly(case: Case) -> None:
    """min over the ball of a z + b is a c + b - eps ||a||."""
    net, centre, params = asked(case)
    found = box_margins(net, entry_box(net, Perturbation("l2").around(centre, 0.3)), LABELS, params, method="crown")
    module = net.module()
    for index, (x, label) in enumerate(zip(centre, LABELS.tolist(), strict=True)):
        jacobian = torch.autograd.functional.jacobian(lambda z: module(z[None])[0], x).flatten(1)
        rows = jacobian[label] - jacobian
        wanted = margins(module(x[None])[None], LABELS[index : index + 1])[0, 0]
        norms = torch.cat([rows[:label], rows[label + 1 :]]).norm(dim=1)
        assert torch.allclose(found[0, index], wanted - 0.3 * norms, rtol=1e-9, atol=1e-9)


def test_tiny_networks_against_a_scan_of_the_plane() -> None:
    """Two pixels: the true minimum is known to what the network can change between neighbouring points."""
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)[:-1]
    rings = torch.linspace(0, 1, 121, dtype=torch.float64)
    disc = torch.stack([torch.outer(rings, angle.cos()), torch.outer(rings, angle.sin())], -1).reshape(-1, 2)
    gaps = []
    for seed in range(12):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)).double()
        net, centre, eps = gls_es.Network(module, (2,)), torch.rand(1, 2, dtype=torch.float64), 0.4
        lipschitz = math.prod(float(layer.weight.detach().norm(2)) for layer in module if isinstance(layer, nn.Linear))
        with torch.no_grad():
            exact = margins(module(centre + eps * disc)[:, None], torch.tensor([0])).amin(0)[0]
        slack = 2 * lipschitz * eps * (1 / 240 + math.pi / 720)
        box = Perturbation("l2").around(centre, eps)
        for method in BALLS:
            found = box_margins(net, box, torch.tensor([0]), net.members(None, centre), method=method)[0, 0]
            assert (found <= exact + 1e-12).all()
            if method == "crown":
                gaps.append(float((exact - found).min()) / slack)
    assert min(gaps) < 1  # where the ReLUs are stable, CROWN finds the minimum


def test_gradients_are_those_of_finite_differences() -> None:
    case = next(c for c in ZOO if c.name == "mlp")
    net, centre, params = asked(case)
    box = entry_box(net, Perturbation("l2").around(centre, 0.2))
    for method in ("ibp", "crown-ibp", "crown"):
        weights = params.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(box_margins(net, box, LABELS, weights, method=method).sum(), weights)
        assert gradient.isfinite().all()
        step = 1e-6 * torch.randn(params.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        ends = [box_margins(net, box, LABELS, params + s * step, method=method).sum() for s in (1, -1)]
        assert float((ends[0] - ends[1]) / 2) == pytest.approx(float((gradient * step).sum()), rel=1e-4)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.balls])
def test_methods_without_balls_refuse_them(method: str) -> None:
    net, centre, params = asked(next(c for c in ZOO if c.name == "mlp"))
    with pytest.raises(ConfigError, match="no bounds on L2 balls; choose one of ibp, crown-ibp, crown"):
        box_margins(net, Perturbation("l2").around(centre, 0.1), LABELS, params, method=method)


@pytest.mark.parametrize(
    ("value", "norm", "words"),
    [
        ([0.1, 0.2], "linf", "does not fit"),
        (torch.full((1, 5, 5), 0.1), "linf", "does not fit"),
        (torch.tensor([0.1, -0.1, 0.1]), "linf", "between 0 and 1"),
        (torch.tensor([0.1, math.nan, 0.1]), "linf", "between 0 and 1"),
        (["a", "b"], "linf", "number or a tensor"),
        (1.5, "linf", "between 0 and 1, "),
        (7.0, "l2", "between 0 and 6.928"),  # no two images of 48 pixels are farther apart
        (0.1, "l3", "unknown norm 'l3'"),
        (0.1, None, "unknown norm"),
        ([0.1, 0.2, 0.3], "l2", "one radius"),
    ],
)
def test_perturbations_that_make_no_sense(value: object, norm: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        perturbation_of(value, norm, (3, 4, 4))


def test_radii_of_channels_and_pixels() -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    eps, channels = perturbation_of([0.1, 0.0, 0.2], "linf", (3, 4, 4))
    assert eps == 0.2
    lower, upper = channels.ends(images, 0.4)  # a schedule's radius is the largest
    assert torch.allclose(upper[0, :, 0, 0], torch.tensor([0.7, 0.5, 0.9]))
    assert torch.allclose(upper - images, images - lower)
    mask = torch.zeros(4, 4)
    mask[1, 2] = 0.3
    eps, pixels = perturbation_of(mask, "linf", (3, 4, 4))
    lower, _ = pixels.ends(images, eps)
    assert int((lower < images).sum()) == 2 * 3
    assert perturbation_of("1/4", "linf", (3, 4, 4))[1].plain
