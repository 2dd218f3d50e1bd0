"""Activations other than ReLU are read as PyTorch executes them, and what they are said to be is what they are."""

import math

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.errors import UnsupportedNetworkError
from gls_es.network.activations.curve import Curve
from gls_es.network.activations.table import CURVES, curve
from tests.oracles.activations import ACTIVATIONS, SPELLINGS, Written, dense_net

EXAMPLES: dict[str, list[tuple[float, ...]]] = {
    "clamp": [(-0.5, 0.75), (0.0, 6.0), (2.0, 2.0), (-math.inf, 0.3), (-1.5, math.inf), (-math.inf, 150.0)],
    "elu": [(1.0, 1.0, 1.0), (1.6732632423543772, 1.0507009873554805, 1.0), (0.5, 1.0, 2.0), (0.3, 2.0, 1.0)],
    "hard-sigmoid": [(1 / 6, 0.5), (0.2, 0.5)],
    "softplus": [(1.0, 20.0), (3.0, 2.0), (1.0, -1000.0)],
}
CASES = [(kind, constants) for kind in CURVES for constants in EXAMPLES.get(kind, [()])]


def grid(f: Curve) -> Tensor:
    """Points close together where curves are bent, far apart elsewhere, and all that the curve names."""
    named = [*f.turns, *f.kinks, *(end for bow in f.bows for end in (bow.start, bow.stop) if math.isfinite(end))]
    parts = [torch.linspace(-12, 12, 24001, dtype=torch.float64), torch.tensor([*named, -200.0, 200.0]).double()]
    return torch.cat(parts).sort().values


FAR = {
    "far rows": lambda: Written(lambda x: torch.maximum(90 * x, torch.tensor([-70.1, -1.1, 0.0, 99.9, 300.0])) / 90),
    "a far row of the module's format": lambda: Written(
        lambda x: torch.minimum(90 * x, torch.tensor([70.1, -100.3, 300.1, 65.3, 500.0], dtype=x.dtype)) / 90
    ),
    "a far number": lambda: Written(lambda x: (90 * x).clamp(max=70.1).clamp_min(-100.3) / 90),
}


@pytest.mark.parametrize("name", [*ACTIVATIONS, *SPELLINGS, *FAR])
def test_the_graph_computes_what_the_module_does(name: str) -> None:
    module = dense_net((ACTIVATIONS | SPELLINGS | FAR)[name])
    net = gls_es.Network(module, (5,))
    x = 2 * torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net.logits(x)[0], module(x), rtol=1e-5, atol=1e-5)
        expected = net.module().double()(x.double())
        logits, tolerance = net.wide().checked_logits(x)
    assert ((logits - expected).abs() <= tolerance).all()
    assert (tolerance < (1e-6 if name == "softplus" else 1e-9)).all()  # the step at its threshold is 1e-9


def test_the_slope_of_a_prelu_is_one_of_the_weights() -> None:
    net = gls_es.Network(dense_net(ACTIVATIONS["prelu"]), (5,))
    place = net.named_slices()["1.weight"]
    params = net.parameter_vector()[None].repeat(2, 1)
    params[1, place] = -0.7
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for member, logits in zip(params, net.logits(x, params), strict=True):
            torch.testing.assert_close(logits, net.module(member)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_curves_have_the_slopes_turns_and_bows_that_they_state(kind: str, constants: tuple[float, ...]) -> None:
    """Held against differences and autograd on a fine grid."""
    f = curve(kind, constants)
    z = grid(f)
    value = f.value(z)
    chord = value.diff() / z.diff().clamp_min(1e-300)
    wide = z.diff() > 1e-9
    least, greatest = f.steepness
    assert (chord[wide] >= least - 1e-9).all()
    assert (chord[wide] <= greatest + 1e-9).all()
    assert greatest == f.steepest or -least == f.steepest
    leaf = z.clone().requires_grad_()
    (own,) = torch.autograd.grad(f.value(leaf).sum(), leaf)
    smooth = torch.tensor([all(abs(p - kink) > 1e-6 for kink in f.kinks) for p in z.tolist()])
    torch.testing.assert_close(f.slope(z)[smooth], own[smooth], rtol=1e-9, atol=1e-12)
    monotone = torch.bucketize(z, torch.tensor(f.turns, dtype=torch.float64))
    for part in range(len(f.turns) + 1):  # between turning points the values go one way
        steps = value[monotone == part].diff()
        assert (steps >= -1e-15).all() or (steps <= 1e-15).all()
    covered = torch.zeros_like(z, dtype=torch.bool)
    for start, stop in f.straight:
        inside = (z >= start) & (z <= stop)
        covered |= inside
        assert not f.crooked(z[inside], z[inside]).any()
        slopes = (value[inside].diff() / z[inside].diff())[z[inside].diff() > 1e-9]
        assert len(slopes) == 0 or slopes.max() - slopes.min() < 1e-6
    for bow in f.bows:
        inside = (z >= bow.start) & (z <= bow.stop)
        covered |= inside
        slopes = bow.slope(z[inside])
        assert ((slopes.diff() if bow.convex else -slopes.diff()) >= -1e-15).all()
        middle = inside & smooth
        torch.testing.assert_close(bow.slope(z[middle]), own[middle], rtol=1e-9, atol=1e-12)
        leaf = z[middle].clone().requires_grad_()
        (bend,) = torch.autograd.grad(bow.slope(leaf).sum(), leaf)
        torch.testing.assert_close(bow.bend(z[middle]), bend, rtol=1e-6, atol=1e-9)
    assert covered.all()


@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_images_are_the_extremes(kind: str, constants: tuple[float, ...]) -> None:
    f = curve(kind, constants)
    generator = torch.Generator().manual_seed(3)
    lower = 6 * torch.randn(300, generator=generator, dtype=torch.float64)
    upper = lower + 8 * torch.rand(300, generator=generator, dtype=torch.float64) ** 3
    least, greatest = f.image(lower, upper)
    inside = f.value(lower + (upper - lower) * torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None])
    assert (least <= inside.amin(0) + 1e-15).all()
    assert (greatest >= inside.amax(0) - 1e-15).all()
    missed = f.steepest * (upper - lower) / 8000  # how far a value between two points can be from theirs
    assert (least >= inside.amin(0) - missed).all()
    assert (greatest <= inside.amax(0) + missed).all()


REFUSED = {
    "a jump": (nn.Threshold(0.1, 20.0), "jumps"),
    "ends that cross": (Written(lambda x: x.clamp(1.0, -1.0)), "leave no room"),
    "a slope that is no parameter": (
        Written(lambda x: nn.functional.prelu(x, torch.tensor([0.1], dtype=x.dtype))),
        "LeakyReLU",
    ),
    "ELU that falls": (nn.ELU(-1.0), "not positive"),
    "a border that is no number": (
        Written(lambda x: nn.functional.pad(x[:, 1:], (1, 0), value=math.nan)),
        "its constants hold NaN",
    ),
    "an end without room": (Written(lambda x: x.clamp(max=-math.inf)), "limit"),
    "a limit that is no number": (Written(lambda x: torch.maximum(x, torch.tensor(math.nan, dtype=x.dtype))), "limit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_without_bounds_are_refused_by_name(name: str) -> None:
    layer, word = REFUSED[name]
    with pytest.raises(UnsupportedNetworkError, match=word):
        gls_es.Network(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)), (4,))
