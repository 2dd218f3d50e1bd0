"""The loop: how often it saves, what it reports, and the signals that stop it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gls_es.problem.recipe import Recipe
from gls_es.searchers.table import build, finish_generation, restore_searcher, searcher_state
from gls_es.training import loop as loops
from gls_es.training.evaluation import center_row
from gls_es.training.loop import Loop
from gls_es.training.progress import NullProgress
from gls_es.training.runfolder import MetricsWriter
from gls_es.training.schedules import Schedule
from tests.problem.toys import Blobs

RECIPE = Recipe(generations=6, popsize=4, batch_size=8, ramp_until=3, evaluate_every=4, evaluate_images=5)


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """A loop, and the generations it saved at."""
    problem = Blobs(batch_size=8)
    saved: list[int] = []
    schedule = Schedule(RECIPE, problem.eps, problem.method)
    problem.stages = schedule.stage
    with MetricsWriter(tmp_path / "metrics.jsonl") as metrics:
        searcher = build("pgpe", problem, RECIPE)
        yield Loop(problem, searcher, schedule, lambda loop: saved.append(loop.done), metrics, NullProgress()), saved


def test_it_saves_before_the_first_generation_and_after_the_last(made: Any) -> None:
    loop, saved = made
    loop.run(lambda: False)
    assert (loop.done, saved) == (6, [0, 6])


def test_it_saves_every_so_many_seconds(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, saved = made
    now = 0.0
    monkeypatch.setattr(loops.time, "monotonic", lambda: now)

    def a_generation_passes() -> bool:
        nonlocal now
        now += 4.0
        return False

    loop.save_every = 10.0
    loop.run(a_generation_passes)
    assert saved == [0, 3, 6]


def test_with_no_seconds_it_saves_after_every_generation(made: Any) -> None:
    loop, saved = made
    loop.save_every = 0.0
    loop.run(lambda: False)
    assert saved == [0, 1, 2, 3, 4, 5, 6]


def test_it_stops_between_generations_when_asked(made: Any) -> None:
    loop, saved = made
    loop.run(lambda: loop.done >= 2)
    assert (loop.done, saved) == (2, [0, 2])
    assert not torch.equal(loop.center, loop.problem.network.parameter_vector())
    loop.run(lambda: False)
    assert (loop.done, saved) == (6, [0, 2, 6])


def test_the_center_is_the_generations_result(made: Any) -> None:
    """After n generations the center has had n updates, none pending."""
    loop, _ = made
    centers = [loop.center]
    loop.run(lambda: centers.append(loop.center) or False)  # type: ignore[func-returns-value]
    moved = [not torch.equal(a, b) for a, b in zip(centers[1:], [*centers[2:], loop.center], strict=True)]
    assert moved == [True] * 6
    assert loop.searcher._first_iter


def test_time_adds_up_over_processes(made: Any) -> None:
    loop, _ = made
    loop.elapsed = 100.0
    loop.run(lambda: False)
    assert 100 < loop.elapsed < 200
    assert loop.last_row["elapsed_seconds"] == pytest.approx(loop.elapsed, abs=1e-3)


@pytest.mark.parametrize("name", ["pgpe", "rgs", "grad"])
@pytest.mark.parametrize("optimizer", ["adam", "clipup", "sgd"])
def test_a_saved_searcher_is_a_copy_and_comes_back(name: str, optimizer: str) -> None:
    recipe = RECIPE.replaced(optimizer=optimizer)

    def advance(searcher: Any, generations: range) -> torch.Tensor:
        for generation in generations:
            searcher.problem.begin(generation)
            searcher.step()
            finish_generation(searcher)
        center: torch.Tensor = searcher.status["center"]
        return center

    first = build(name, Blobs(batch_size=8), recipe)
    advance(first, range(3))
    state = searcher_state(first)
    kept = {key: value.clone() for key, value in state["optimizer"].items()}
    final = advance(first, range(3, 6))
    assert all(torch.equal(state["optimizer"][key], kept[key]) for key in kept)
    second = build(name, Blobs(batch_size=8), recipe)
    restore_searcher(second, state)
    assert torch.equal(advance(second, range(3, 6)), final)
    assert second.step_count == 6
    assert all(torch.equal(state["optimizer"][key], kept[key]) for key in kept)


def test_center_row_counts_by_hand() -> None:
    problem = Blobs(eps=0.01, method="crown")
    generator = torch.Generator().manual_seed(22)  # right on 4 of the 7 images, and certain on 3 of those
    center = torch.randn(problem.solution_length, generator=generator)
    images, labels = problem.data.test.batch(slice(0, 7))
    logits = problem.network.module(center)(images)
    correct = logits.argmax(1) == labels
    found = center_row(problem, center, images=7)
    assert found["natural_accuracy"] == pytest.approx(float(correct.float().mean())) == pytest.approx(4 / 7)
    lower, upper = (images - 0.01).clamp(min=0), (images + 0.01).clamp(max=1)
    corners = torch.cartesian_prod(*4 * [torch.tensor([0.0, 1.0])])
    points = lower[:, None] + corners * (upper - lower)[:, None]
    attacked = problem.network.module(center)(points.reshape(-1, 4)).argmax(1).reshape(7, 16) == labels[:, None]
    assert 0 < found["certified_accuracy"] <= float(attacked.all(1).float().mean()) < 4 / 7
    problem.eps = 0.0  # a box that is a point
    every, truth = problem.data.test.batch()
    accuracy = float((problem.network.module(center)(every).argmax(1) == truth).float().mean())
    assert center_row(problem, center, images=100)["certified_accuracy"] == pytest.approx(accuracy)
