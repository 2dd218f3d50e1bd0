"""Splits of activations other than ReLU: cells leave nothing out, and branch and bound gains from them."""

import pytest
import torch
from torch import nn

import gls_es
from gls_es.certification.cells import cell, splittable
from gls_es.network.graph import Activation, ReLU
from tests.network.test_activations import CASES
from tests.oracles.activations import ACTIVATIONS


@pytest.mark.parametrize(("kind", "constants"), CASES)
def test_the_cells_of_every_depth_fill_the_interval(kind: str, constants: tuple[float, ...]) -> None:
    """Without gaps and overlaps, to the last bit; what a split says is one of the cell's ends."""
    node = Activation("f", (0,), (1,), kind, constants)
    for low, high in ((-1.0, 4.0), (-3.7, 3.7), (0.1, 0.3), (-70.0, 1.0)):
        codes = torch.arange(127, dtype=torch.int8)
        lower, upper = (torch.full((127,), end, dtype=torch.float64) for end in (low, high))
        found = cell(node, lower, upper, codes)
        assert found.sign[0] == 0
        for depth in range(1, 7):
            at = slice(2**depth - 1, 2 ** (depth + 1) - 1)
            starts, stops = found.lower[at].sort().values, found.upper[at].sort().values
            assert (starts[0], stops[-1]) == (low, high)
            assert torch.equal(starts[1:], stops[:-1])
            assert (starts < stops).all()
            end = torch.where(found.sign[at] > 0, found.lower[at], found.upper[at])
            assert torch.equal(found.point[at], end)


def test_straight_cells_and_signed_relus_are_not_split() -> None:
    node = Activation("f", (0,), (1,), "clamp", (0.0, 6.0))
    lower, upper = torch.tensor([-1.0, -1.0, 1.0]), torch.tensor([5.0, 5.0, 5.0])
    assert splittable(node, lower, upper, torch.tensor([0, 1, 0], dtype=torch.int8)).tolist() == [True, False, False]
    relu = ReLU("f", (0,), (1,))
    assert splittable(relu, lower, upper, torch.tensor([0, 1, 0], dtype=torch.int8)).tolist() == [True, False, False]
    part = cell(relu, lower, upper, torch.tensor([1, -1, 0], dtype=torch.int8))
    assert (part.lower.tolist(), part.upper.tolist()) == ([0.0, -1.0, 1.0], [5.0, 0.0, 5.0])


@pytest.mark.parametrize(("name", "share"), [("abs", 0.7), ("hardtanh", 0.95), ("tanh", 0.985)])
def test_branch_and_bound_decides_what_slopes_do_not(name: str, share: float) -> None:
    """Radii close to the greatest that a grid of two inputs shows to be robust: bab has to reach beyond alpha."""
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(2, 6), ACTIVATIONS[name](), nn.Linear(6, 6), ACTIVATIONS[name](), nn.Linear(6, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2.5 if parameter.dim() > 1 else 1.0)
    line = torch.linspace(-1, 1, 101)
    grid, radii = torch.cartesian_prod(line, line), torch.linspace(0.01, 0.6, 60).tolist()
    verdicts = []
    for image in torch.rand(6, 2, generator=torch.Generator().manual_seed(6))[2:4]:
        label = module(image[None]).argmax(1)
        robust = [r for r in radii if bool((module((image + r * grid).clamp(0, 1)).argmax(1) == label).all())]
        for stages in (("crown", "alpha"), ("crown", "alpha", "bab")):
            report = gls_es.certify(module, image[None], label, share * max(robust), stages=stages, timeout=30.0)
            verdicts.append(report.verdicts[0].verdict)
    before, after = verdicts[::2], verdicts[1::2]
    assert set(after) <= {"certified", "unknown"}
    assert after.count("certified") > before.count("certified")
