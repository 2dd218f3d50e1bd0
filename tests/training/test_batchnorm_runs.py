"""BatchNorm while training: frozen for a whole run, or following the center and exact at the end."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from evotorch.algorithms import PGPE

import gls_es
from gls_es.errors import ConfigError
from gls_es.network.batchnorm import precise_statistics, updated_statistics
from gls_es.training import TrainingInterrupted, load_trained, resume
from gls_es.training.checkpoint import load_checkpoint
from tests.problem.normed import NormedBlobs

from .running import Recording, StopAfter, assert_same, rows, timeless
from .running import run as any_run

run = partial(any_run, statistics="follow")
NORMED = "tests.problem.normed:NormedBlobs"


@pytest.mark.parametrize("searcher", ["pgpe", "rgs", "grad"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, searcher: str) -> None:
    straight = run(tmp_path / "straight", searcher=searcher, problem=NORMED)
    broken = tmp_path / "broken"
    with pytest.raises(TrainingInterrupted):
        run(broken, searcher=searcher, problem=NORMED, progress=StopAfter(5))
    with pytest.raises(TrainingInterrupted):
        resume(broken, progress=StopAfter(6))
    again = resume(broken)
    assert_same(timeless(load_checkpoint(straight)), timeless(load_checkpoint(again)))
    assert [timeless(row) for row in rows(straight.parent)] == [timeless(row) for row in rows(broken)]


def test_statistics_follow_the_center_by_one_minibatch_a_generation(tmp_path: Path) -> None:
    """A stopped run's statistics are those of a loop written by hand over its centers."""
    found = tmp_path / "run"
    centers = []
    for generation in range(1, 5):
        stop = StopAfter(generation)
        go = partial(run, problem=NORMED) if generation == 1 else resume
        with pytest.raises(TrainingInterrupted):
            go(found, progress=stop)
        centers.append(load_checkpoint(found / "checkpoint.pt")["center"])
    problem = NormedBlobs(batch_size=8)
    net = problem.network
    for generation, center in [(0, net.parameter_vector()), *enumerate(centers)]:
        problem.begin(generation)
        net.load_buffers(updated_statistics(net, center, problem.minibatch.images))
    assert_same(load_checkpoint(found / "checkpoint.pt")["buffers"], net.buffers())


def test_a_finished_run_has_exact_statistics_and_they_are_certified(tmp_path: Path) -> None:
    shown = Recording()
    checkpoint = run(tmp_path / "run", problem=NORMED, progress=shown)
    trained = load_trained(checkpoint)
    content = load_checkpoint(checkpoint)
    images, labels = trained.dataset().train.batch()
    wanted = precise_statistics(trained.network, content["center"], lambda: [images])
    for name, value in wanted.items():
        torch.testing.assert_close(trained.network.buffers()[name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(content["buffers"][name], trained.network.buffers()[name])
    module = trained.network.module()
    test_images, test_labels = trained.dataset().test.batch()
    natural = float((module(test_images).argmax(1) == test_labels).double().mean())
    assert gls_es.certify(trained, test_images, test_labels, eps=0.0).natural_accuracy == natural
    assert shown.rows[-1]["natural_accuracy"] == natural  # the last row is about the network that is saved
    assert bool((module[0](images).mean(0) - module[1].running_mean).abs().max() < 1e-5)
    assert len(labels) == 20


@pytest.mark.parametrize("searcher", ["pgpe", "grad"])
def test_frozen_statistics_are_those_of_the_initial_weights(tmp_path: Path, searcher: str) -> None:
    content = load_checkpoint(any_run(tmp_path / "run", searcher=searcher, problem=NORMED))
    problem = NormedBlobs()
    images, _ = problem.data.train.batch()
    wanted = precise_statistics(problem.network, problem.network.parameter_vector(), lambda: [images])
    for name, value in wanted.items():
        torch.testing.assert_close(content["buffers"][name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(content["center"], problem.network.parameter_vector())


def test_a_stopped_run_with_frozen_statistics_goes_on_bit_for_bit(tmp_path: Path) -> None:
    straight = any_run(tmp_path / "straight", problem=NORMED)
    broken = tmp_path / "broken"
    with pytest.raises(TrainingInterrupted):
        any_run(broken, problem=NORMED, progress=StopAfter(5))
    assert_same(timeless(load_checkpoint(straight)), timeless(load_checkpoint(resume(broken))))


def test_only_some_of_the_training_set_if_so_wanted(tmp_path: Path) -> None:
    whole, part = (
        load_checkpoint(run(tmp_path / str(n), problem=NORMED, statistics_images=n))["buffers"] for n in (20, 5)
    )
    assert not torch.equal(whole["1.running_mean"], part["1.running_mean"])


def test_the_fitness_of_a_generation_is_a_function_of_the_weights() -> None:
    problem = NormedBlobs(batch_size=8)
    problem.update_statistics(problem.network.parameter_vector())
    problem.begin(0)
    population = problem.network.parameter_vector() + 0.1 * torch.randn(6, problem.solution_length)
    once, again = problem.losses(population), problem.losses(population.flip(0)).flip(0)
    torch.testing.assert_close(once, again, rtol=1e-5, atol=1e-6)


def test_actors_get_the_statistics_with_the_generation() -> None:
    problem, actor = NormedBlobs(batch_size=8), NormedBlobs(batch_size=8)
    problem.begin(3)
    problem.update_statistics(problem.network.parameter_vector())
    weights = problem.network.parameter_vector()[None]
    sent = pickle.loads(pickle.dumps(problem._make_sync_data_for_actors()))
    actor._use_sync_data_from_main(sent)
    assert torch.equal(actor.losses(weights), problem.losses(weights))
    assert not torch.equal(NormedBlobs(batch_size=8).losses(weights), problem.losses(weights))


def test_evotorchs_own_loop() -> None:
    problem = NormedBlobs(batch_size=8)
    searcher = PGPE(
        problem, popsize=4, center_learning_rate=0.1, stdev_learning_rate=0.0, stdev_init=0.1, ranking_method="raw"
    )
    searcher.after_step_hook.append(lambda: problem.update_statistics(searcher.status["center"]))
    before = problem.network.buffers()
    searcher.run(2)
    assert not torch.equal(problem.network.buffers()["1.running_mean"], before["1.running_mean"])


def test_a_batch_of_one_image_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 2"):
        run(tmp_path / "run", problem=NORMED, batch_size=1)
