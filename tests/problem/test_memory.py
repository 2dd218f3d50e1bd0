"""The memory that a problem states is not exceeded, by the sizes of the tensors that are alive."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gls_es import CertifiedTrainingProblem, kernels
from gls_es.benchmark.measure import LiveBytes, threads
from gls_es.bounds import Plan
from gls_es.data import Dataset, Split

MIB = 1 << 20


class Narrow(CertifiedTrainingProblem):
    """CNN7 at width 4 on random images."""

    eps = 2 / 255

    def make_network(self) -> nn.Module:
        layers: list[nn.Module] = []
        for channels, out, stride in ((3, 4, 1), (4, 4, 1), (4, 8, 2), (8, 8, 1), (8, 8, 1)):
            layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 32), nn.ReLU(), nn.Linear(32, 10))

    def make_data(self) -> Dataset:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (16, 3, 32, 32), generator=generator, dtype=torch.uint8)
        split = Split(images, torch.arange(16) % 10, 255.0)
        return Dataset("random", split, split, 10)


def peak(method: str, budget: int, *, members: int, batch: int) -> int:
    """Bytes alive at most while a generation is evaluated."""
    problem = Narrow(method=method, memory_budget=budget, batch_size=batch, seed=0)
    population = problem.generate_batch(members)
    with threads(1), LiveBytes() as memory:  # it sees one thread's work
        problem.evaluate(population)
    return memory.peak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "members", "batch", "budget"), [("ibp", 16, 16, 32), ("crown-ibp", 8, 16, 32), ("crown", 4, 4, 16)]
)
def test_a_budget_is_respected_and_is_what_limits(
    monkeypatch: pytest.MonkeyPatch, method: str, members: int, batch: int, budget: int
) -> None:
    assert peak(method, budget * MIB, members=members, batch=batch) <= budget * MIB  # by the quick ways on CPUs
    # an accelerator's way and its chunks, so that nothing but the budget keeps them small
    monkeypatch.setattr(Plan, "default", classmethod(lambda cls, kind: Plan(1 << 30, 64, direct=False)))
    with kernels.plain():
        assert peak(method, budget * MIB, members=members, batch=batch) <= budget * MIB
        assert peak(method, 1 << 30, members=members, batch=batch) > 2 * budget * MIB
