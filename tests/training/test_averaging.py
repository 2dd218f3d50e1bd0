"""The running mean of the centers, against sums with weights written out."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gls_es.training import Bookkeeping, load_trained
from gls_es.training.averaging import Average
from gls_es.training.checkpoint import load_checkpoint

from .running import GENERATIONS, assert_same, rows, run


def walk(steps: int, seed: int = 0) -> Tensor:
    return torch.randn(steps, 7, generator=torch.Generator().manual_seed(seed)).cumsum(0)


def averaged(centers: Tensor, decay: float, start: int = 0) -> Average:
    average = Average(decay, start)
    for generation, center in enumerate(centers, 1):
        average.add(center, generation)
    return average


def test_decay_one_is_the_plain_mean() -> None:
    centers = walk(50)
    found = averaged(centers, 1.0, start=20)
    assert found.count == 30
    assert torch.allclose(found.center, centers[20:].double().mean(0).float(), rtol=1e-5, atol=1e-6)  # float32 sums


def test_another_decay_is_a_mean_at_first_and_then_forgets() -> None:
    centers, decay = walk(40), 0.9
    assert torch.allclose(averaged(centers[:10], decay).center, centers[:10].mean(0), rtol=1e-5, atol=1e-6)
    weights = torch.full((40,), 0.1, dtype=torch.float64)  # of a center when it comes
    left = torch.tensor([0.9 ** (39 - max(index, 9)) for index in range(40)], dtype=torch.float64)  # of it at the end
    assert float((weights * left).sum()) == pytest.approx(1.0)
    wanted = ((weights * left)[:, None] * centers.double()).sum(0).float()
    assert torch.allclose(averaged(centers, decay).center, wanted, rtol=1e-5, atol=1e-6)


def test_without_decay_there_is_none() -> None:
    assert averaged(walk(5), 0.0).center is None
    assert averaged(walk(5), 0.5, start=5).center is None


def test_the_centers_are_left_alone() -> None:
    centers = walk(5)
    before = centers.clone()
    averaged(centers, 0.5)
    assert torch.equal(centers, before)


def test_the_result_of_a_run_is_the_mean_of_its_centers(tmp_path: Path) -> None:
    """Numbered checkpoints of a run without averaging give the centers; averaging does not change where they go."""
    every = Bookkeeping(save_every=0, keep=GENERATIONS)
    raw = load_checkpoint(run(tmp_path / "raw", bookkeeping=every))
    centers = [load_checkpoint(tmp_path / "raw" / f"checkpoint-{n:07}.pt")["center"] for n in range(9, GENERATIONS + 1)]
    checkpoint = run(tmp_path / "averaged", average_decay=1.0, average_from=8)
    saved = load_checkpoint(checkpoint)
    assert_same(saved["searcher_state"], raw["searcher_state"])
    assert not torch.equal(saved["center"], raw["center"])
    assert torch.allclose(saved["center"], torch.stack(centers).mean(0), rtol=1e-5, atol=1e-7)
    trained = load_trained(checkpoint)
    assert torch.equal(trained.network.parameter_vector(), saved["center"])
    images, labels = trained.dataset().test.batch()
    natural = (trained.network.module()(images).argmax(1) == labels).float().mean()
    assert rows(checkpoint.parent)[-1]["natural_accuracy"] == pytest.approx(float(natural))
