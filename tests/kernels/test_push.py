"""Intervals pushed forward by the kernels give what PyTorch gives; skipped where the kernels are not built."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch
from torch import Tensor, nn

from gls_es import Network, bounds, kernels
from gls_es.bounds import Plan, pushed
from tests.oracles.api import FLOATS, TOLERANCE, assert_near, network
from tests.oracles.digits import TRAINED
from tests.oracles.nets import BY_NAME, CNN3_SMALL, WITH_RELU, Case
from tests.oracles.problems import problem

pytestmark = pytest.mark.skipif(not kernels.available(), reason="the kernels are not built")

push = sys.modules["gls_es.kernels.push"]
CASES = [*WITH_RELU, *TRAINED]
METHODS = ["ibp", "crown-ibp"]


def margins(case: Case, method: str, dtype: torch.dtype, images: int) -> tuple[Tensor, Tensor]:
    """Margins with kernels, and by the plain way that computes all pre-activations first."""
    task = problem(case, 3, images)
    net, params = network(task, dtype), task.params.to(dtype)
    box = task.lower.to(dtype), task.upper.to(dtype)
    with torch.no_grad():
        actual = bounds.margins(net, *box, task.labels, method=method, params=params)
        with kernels.plain():
            plan = Plan(Plan.default("cpu").bytes, direct=False)
            expected = bounds.margins(net, *box, task.labels, method=method, params=params, plan=plan)
    return actual, expected


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_pushed_margins_equal_pytorch(case: Case, method: str, dtype: torch.dtype) -> None:
    actual, expected = margins(case, method, dtype, 19)
    assert_near(actual, expected.double(), TOLERANCE[dtype])


@pytest.mark.parametrize("images", [1, 7, 8, 16, 17, 32, 33, 70])
@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_images(method: str, images: int) -> None:
    """Blocks that are not full, and blocks of one vector of lanes after blocks of two."""
    actual, expected = margins(CNN3_SMALL, method, torch.float32, images)
    assert_near(actual, expected.double(), TOLERANCE[torch.float32])


@pytest.mark.parametrize("level", range(len(kernels.LEVELS)))
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["residual", "cnn3_small"])
def test_every_instruction_set(
    name: str, method: str, dtype: torch.dtype, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if level > kernels.level():
        pytest.skip("this processor lacks it")
    monkeypatch.setattr(push, "level", lambda: level)
    actual, expected = margins(BY_NAME.get(name, CNN3_SMALL), method, dtype, 21)
    assert_near(actual, expected.double(), TOLERANCE[dtype])


@pytest.mark.parametrize("method", METHODS)
def test_the_networks_that_are_trained_are_pushed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a quiet way back to PyTorch."""
    found = []
    run = kernels.Sweep.run
    monkeypatch.setattr(kernels.Sweep, "run", lambda *args: found.append(1) or run(*args))
    for case in (CNN3_SMALL, *TRAINED):
        margins(case, method, torch.float32, 9)
    assert len(found) == 1 + len(TRAINED)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_a_number_is_not_hidden(method: str) -> None:
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (1, 2, 2))
    params = net.parameter_vector().expand(3, -1).clone()
    params[1, 0] = torch.nan
    x = torch.rand(9, 1, 2, 2)
    found = bounds.margins(net, x - 0.1, x + 0.1, torch.zeros(9, dtype=torch.int64), method=method, params=params)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_slots_are_used_again() -> None:
    """A chain of layers needs the box, two values at a time, and nothing for ReLUs and reshapes."""
    chain: list[nn.Module] = [nn.Flatten()]
    for _ in range(6):
        chain += [nn.Linear(4, 4), nn.ReLU()]
    net = Network(nn.Sequential(*chain, nn.Linear(4, 2)), (1, 2, 2))
    layout = pushed.layout(net.graph, (net.graph.output,))
    assert layout is not None
    assert layout.slots == (4, 4, 4)


def test_records_are_as_long_as_in_c() -> None:
    """Eight bytes a field, as ``push.h`` has them."""
    assert ctypes.sizeof(push._Push) == 8 * (5 + 6 + 8 + 1 + 2 * 3 + 2 * 3 + 3 + 3)
    assert ctypes.sizeof(push._Sweep) == 8 * (7 + 2 + 2 * 3 + 1 + 2 + 1)
