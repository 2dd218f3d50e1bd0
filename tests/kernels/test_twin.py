"""The compiled passes give what PyTorch gives, on every network of the zoo; skipped where they are not built."""

from __future__ import annotations

import ctypes
import math
import sys

import pytest
import torch
from torch import Tensor, nn

from gls_es import bounds, kernels
from gls_es.basics.threads import each, whole_operations
from gls_es.bounds.relaxation import LowerSlope, adaptive, enclose, one, same, zero
from gls_es.certification.rounding import outward_ball, sound_margins
from gls_es.kernels import chain
from tests.oracles.api import FLOATS, TOLERANCE, assert_near, network
from tests.oracles.digits import TRAINED
from tests.oracles.nets import BY_NAME, CNN3_SMALL, WITH_RELU, Case
from tests.oracles.problems import Problem, problem

pytestmark = pytest.mark.skipif(not kernels.available(), reason="the kernels are not built")

lines = sys.modules["gls_es.kernels.lines"]  # the module: its function has the same name
PADDED = Case(
    "windows_of_padding",
    lambda: nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    ),
    (1, 6, 6),
    0.05,
)
"""Neurons of the second convolution's border see padding and nothing else."""


class TwoMaps(nn.Module):
    """One flat value read as two maps, and by a linear layer; what else is there may be run through PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Linear(5, 36)
        self.first, self.second = nn.Conv2d(4, 2, 2), nn.Conv2d(1, 2, 3, stride=2)
        self.exits = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 3), nn.Linear(36, 3)])

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.relu(self.entry(x))
        first = torch.relu(self.first(flat.reshape(-1, 4, 3, 3))).flatten(1)
        second = torch.relu(self.second(flat.reshape(-1, 1, 6, 6))).flatten(1)
        parts = [layer(part) for layer, part in zip(self.exits, (first, second, flat), strict=True)]
        return parts[0] + parts[1] + parts[2]


FOLDED = [
    Case(
        "map_of_few_inputs",  # windows that see a part of a map that a linear layer made
        lambda: nn.Sequential(
            *(nn.Linear(4, 98), nn.Unflatten(1, (2, 7, 7)), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(3, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)),
        ),
        (4,),
        0.1,
    ),
    Case(
        "generator",
        lambda: nn.Sequential(
            *(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 32), nn.ReLU(), nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 3, 2)),
            *(nn.ReLU(), nn.Conv2d(3, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)),
        ),
        (4,),
        0.1,
    ),
]
TWO_MAPS = Case("two_maps", TwoMaps, (5,), 0.1)

CASES = [*WITH_RELU, *TRAINED, *FOLDED, TWO_MAPS]


def call(task: Problem, method: str, dtype: torch.dtype) -> list[Tensor]:
    """Margins and pre-activation bounds."""
    net, params = network(task, dtype), task.params.to(dtype)
    box = task.lower.to(dtype), task.upper.to(dtype)
    with torch.no_grad():
        margins = bounds.margins(net, *box, task.labels, method=method, params=params)
        layers = bounds.preactivations(net, *box, method=method, params=params)
    return [margins, *(side for pair in layers for side in pair)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", ["crown", "crown-ibp", "crown-same", "hbox"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_kernels_equal_pytorch(case: Case, method: str, dtype: torch.dtype) -> None:
    task = problem(case, 3, 3)
    actual = call(task, method, dtype)
    with kernels.plain():
        expected = call(task, method, dtype)
    for found, wanted in zip(actual, expected, strict=True):
        assert_near(found, wanted.double(), TOLERANCE[dtype])


def test_windows_that_see_padding_alone() -> None:
    test_kernels_equal_pytorch(PADDED, "crown", torch.float64)
    test_gradients_equal_pytorch(PADDED, "crown")


@pytest.mark.parametrize("method", ["crown", "crown-ibp"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gradients_equal_pytorch(case: Case, method: str) -> None:
    task = problem(case, 2, 3)
    actual = gradient(task, method)
    with kernels.plain():
        expected = gradient(task, method)
    assert_near(actual, expected, TOLERANCE[torch.float64])


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_pass_in_several_threads_equals_one_in_one(case: Case, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds bit for bit, whatever is divided: functions, members, images or positions; gradients are added up."""
    tasks = [problem(case, 1, 1), problem(case, 3, 2), problem(case, 1, 40)]
    alone = [call(task, "crown", torch.float32) for task in tasks]
    slope = gradient(tasks[1], "crown")
    monkeypatch.setattr(chain, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for task, wanted in zip(tasks, alone, strict=True):
        found = call(task, "crown", torch.float32)
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert divided(tasks[0], monkeypatch) <= {threads}
    assert_near(gradient(tasks[1], "crown"), slope, TOLERANCE[torch.float64])


def test_passes_are_divided_where_it_is_worth_it_and_no_members_are(monkeypatch: pytest.MonkeyPatch) -> None:
    task, threads = problem(BY_NAME["mlp"], 1, 1), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert divided(task, monkeypatch) == {1}  # too small
        monkeypatch.setattr(chain, "WORTH_A_THREAD", 1)
        assert divided(task, monkeypatch) == {3}
        with whole_operations():
            assert divided(task, monkeypatch) == {1}
            assert set().union(*each(lambda _: divided(task, monkeypatch), [0])) == {1}
    finally:
        torch.set_num_threads(threads)


def divided(task: Problem, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Into how many shares the passes of ``crown`` are divided."""
    found: set[int] = set()
    divide = chain.Chain._shares

    def counted(self: chain.Chain, out: Tensor) -> list[ctypes.Structure]:
        records = divide(self, out)
        found.add(len(records))
        return records

    with monkeypatch.context() as patch:
        patch.setattr(chain.Chain, "_shares", counted)
        call(task, "crown", torch.float32)
    return found


def gradient(task: Problem, method: str) -> Tensor:
    """Of a loss of the margins by the members' weights."""
    net, params = network(task, torch.float64), task.params.double().clone().requires_grad_()
    box = task.lower.double(), task.upper.double()
    margins = bounds.margins(net, *box, task.labels, method=method, params=params)
    torch.logsumexp(-margins, 2).sum().backward()
    assert params.grad is not None
    return params.grad


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_bounds_with_rounding_errors_equal_pytorch(case: Case) -> None:
    """Guards, rounding errors of every node, and the margins that certificates rest on."""
    task = problem(case, 1, 2)
    net = network(task, torch.float32)
    ball = outward_ball((task.lower + task.upper) / 2, case.eps, clip=False)
    actual = sound_margins(net, *ball, task.labels, "crown")
    with kernels.plain():
        expected = sound_margins(net, *ball, task.labels, "crown")
    assert_near(actual, expected, TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("level", range(len(kernels.LEVELS)))
@pytest.mark.parametrize("name", ["mlp", "conv_mixed", "conv_leftover", "resnet"])
def test_every_instruction_set_equals_pytorch(
    name: str, level: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if level > kernels.level():
        pytest.skip("this processor does not have it")
    monkeypatch.setattr(chain, "level", lambda: level)
    test_kernels_equal_pytorch(BY_NAME[name], "crown", dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rule", [adaptive, same, zero, one], ids=lambda r: r.__name__)
@pytest.mark.parametrize("shape", [(2, 3, 5, 3, 3), (2, 3, 37)], ids=str)
def test_lines_equal_pytorch(
    shape: tuple[int, ...], rule: LowerSlope, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of neuron and of base, bounds that are 0, infinite or not numbers, on every level."""
    generator = torch.Generator().manual_seed(0)
    lower, width, base = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3))
    upper = lower + width.abs()
    for place, (low, high) in enumerate(
        [(0, 0), (-1, 0), (0, 1), (math.nan, 1), (-1, math.nan), (-math.inf, math.inf)]
    ):
        lower.view(-1)[7 * place], upper.view(-1)[7 * place] = low, high
    bases = [None, base, base[:1], base[:, :1], base[:1, :1, :, :1, :1] if base.dim() == 5 else base[:1, :1]]
    for number in range(kernels.level() + 1):
        monkeypatch.setattr(lines, "level", lambda number=number: number)
        for one_base in bases:
            with kernels.plain():
                expected = enclose(lower, upper, one_base, rule)
            actual = enclose(lower, upper, one_base, rule)
            for part in ("mean", "half", "mean_offset", "half_offset"):
                torch.testing.assert_close(getattr(actual, part), getattr(expected, part), equal_nan=True)


def test_the_networks_that_are_trained_run_on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, a plan that always gives up would pass every test above."""
    found = []
    run = chain.Chain.run

    def counted(self: chain.Chain, members: int, images: int) -> Tensor:
        found.append(self.units)
        return run(self, members, images)

    monkeypatch.setattr(chain.Chain, "run", counted)
    for case in (CNN3_SMALL, BY_NAME["resnet"], BY_NAME["mlp"], *FOLDED):
        found.clear()
        call(problem(case, 1, 1), "crown", torch.float32)
        assert len(found) >= 3, case.name
        with kernels.plain():
            found.clear()
            call(problem(case, 1, 1), "crown", torch.float32)
            assert not found


def test_records_are_as_long_as_in_c() -> None:
    """Eight bytes a field, as ``chain.h`` has them: 23 numbers and 7 tensors of three in an operation."""
    assert ctypes.sizeof(chain._Op) == 8 * (23 + 7 * 3)
    assert ctypes.sizeof(chain._Pass) == 8 * (13 + 1 + 3 + 1 + 5 + 2)
