"""EvoTorch's own searchers on the same object, without our loop."""

import logging
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from evotorch import Problem
from evotorch.algorithms import CEM, PGPE, SNES
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from gls_es import RGS
from gls_es.errors import ConfigError
from tests.conftest import with_ray
from tests.packaging.checkout import ROOT

from .toys import Blobs, Scripted


def sphere(x: Tensor) -> Tensor:
    return x.square().sum()


PGPE_OPTIONS: dict[str, Any] = {
    "popsize": 8,
    "center_learning_rate": 0.05,
    "stdev_learning_rate": 0.1,
    "stdev_init": 0.05,
}


def test_pgpe_works_unchanged_and_starts_at_the_networks_initial_weights() -> None:
    problem = Blobs(batch_size=8)
    searcher = PGPE(problem, **PGPE_OPTIONS)
    assert torch.equal(searcher.status["center"], problem.network.parameter_vector())
    searcher.run(3)
    assert problem.generation == 2
    assert not torch.equal(searcher.status["center"], problem.network.parameter_vector())
    population = searcher.population
    losses = problem.losses(population.values)  # evotorch's read-only kind of tensor
    assert type(losses) is Tensor
    assert torch.allclose(population.evals[:, 0], losses, rtol=1e-6)
    assert searcher.status["mean_eval"] == pytest.approx(float(population.evals.mean()))
    assert {"pop_best_eval", "nonfinite", "eps", "generation", "iter"} <= set(searcher.status)


@pytest.mark.parametrize(("level", "told"), [(None, 0), ("1", 4)])
def test_settings_are_told_only_to_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, level: str | None, told: int
) -> None:
    monkeypatch.delenv("EVOTORCH_VERBOSE_LEVEL", raising=False)
    if level is not None:
        monkeypatch.setenv("EVOTORCH_VERBOSE_LEVEL", level)
    with caplog.at_level(logging.INFO, logger="evotorch.core"):
        Blobs()
        assert len(caplog.records) == told
        Problem("min", sphere, solution_length=2, initial_bounds=(-1, 1))  # one of EvoTorch's own says what it did
    assert len(caplog.records) > told


def test_pgpe_trains() -> None:
    problem = Blobs(batch_size=20, eps=0.05)
    center = problem.network.parameter_vector()
    searcher = PGPE(
        problem, popsize=40, center_learning_rate=0.1, stdev_learning_rate=0.0, stdev_init=0.05, optimizer="adam",
        ranking_method="raw",
    )  # fmt: skip
    searcher.run(60)
    before, after = problem.losses(torch.stack([center, searcher.status["center"]]))
    assert float(after) < 0.6 * float(before)


@pytest.mark.parametrize(
    ("cls", "options"),
    [(SNES, {"stdev_init": 0.05}), (CEM, {"popsize": 8, "parenthood_ratio": 0.5, "stdev_init": 0.05})],
)
def test_other_searchers_take_it_too(cls: Any, options: dict[str, Any]) -> None:
    problem = Blobs(batch_size=8)
    searcher = cls(problem, **options)
    assert torch.equal(searcher.status["center"], problem.network.parameter_vector())
    searcher.run(2)
    assert bool(torch.isfinite(searcher.status["center"]).all())
    assert not torch.equal(searcher.status["center"], problem.network.parameter_vector())


def test_loggers_see_numbers() -> None:
    searcher = RGS(Blobs(batch_size=8), popsize=2, center_learning_rate=0.01, stdev_init=0.01)
    rows: list[dict[str, Any]] = []
    searcher.log_hook.append(rows.append)
    searcher.run(3)
    assert [row["generation"] for row in rows] == [0, 1, 2]
    assert [row["nonfinite"] for row in rows] == [0, 0, 0]
    assert all(isinstance(row["mean_eval"], float) for row in rows)


def test_the_same_seed_gives_the_same_search() -> None:
    centers = []
    for seed in (3, 3, 4):
        searcher = PGPE(Blobs(batch_size=8, seed=seed), **PGPE_OPTIONS)
        searcher.run(3)
        centers.append(searcher.status["center"])
    assert torch.equal(centers[0], centers[1])
    assert not torch.equal(centers[0], centers[2])


def test_single_solutions_can_be_evaluated() -> None:
    problem = Blobs()
    solution = problem.generate_batch(1)[0]
    problem.evaluate(solution)
    assert float(solution.evaluation) == pytest.approx(float(problem.losses(problem.generate_values(1))[0]), rel=1e-6)


def test_a_distributed_generation_without_actors_is_one_generation() -> None:
    problem = Scripted(size=4)
    problem.script = torch.tensor([1.0, torch.nan, 3.0, 4.0])
    distribution = PGPE(Blobs(), **PGPE_OPTIONS)._distribution.modified_copy(mu=torch.zeros(4), sigma=torch.ones(4))
    for generation in range(2):
        found = problem.sample_and_compute_gradients(distribution, 4, ranking_method="raw")
        assert problem.generation == generation
        assert bool(torch.isfinite(found["gradients"]["mu"]).all())
        assert problem.status == {"nonfinite": 1, "eps": problem.eps, "generation": generation}
    problem.evaluate(problem.generate_batch(4))
    assert problem.generation == 2


@with_ray
def test_actors_see_the_main_process_generation(ray: Any) -> None:
    single, spread = Blobs(batch_size=8, seed=3), Blobs(batch_size=8, seed=3, num_actors=2)
    values = single.generate_values(6)
    values[4] = torch.nan
    for generation in (0, 5):
        found = []
        for problem in (single, spread):
            batch = problem.generate_batch(6)
            batch.set_values(values)
            problem.begin(generation)
            problem.evaluate(batch)
            found.append(batch.evals[:, 0].as_subclass(Tensor))
            assert problem.status["nonfinite"] == 1
        assert torch.allclose(found[0], found[1], rtol=1e-5)
    whole_piece_bad = spread.generate_batch(6)
    values[3:] = torch.nan
    whole_piece_bad.set_values(values)
    spread.evaluate(whole_piece_bad)
    assert spread.status["nonfinite"] == 3
    searcher = PGPE(spread, distributed=True, ranking_method="raw", **PGPE_OPTIONS)
    searcher.run(2)
    assert spread.generation == 5 + 1 + 2
    assert searcher.status["nonfinite"] == 0
    assert not torch.equal(searcher.status["center"], spread.network.parameter_vector())
    center_loss = float(single.losses(single.generate_values(1))[0])
    assert searcher.status["mean_eval"] == pytest.approx(center_loss, rel=0.2)
    spread.kill_actors()


@pytest.mark.parametrize(("level", "heard"), [(None, False), ("0", False), ("1", True)])
def test_the_library_leaves_evotorch_s_logging_to_the_user(level: str | None, heard: bool) -> None:
    """As a process of its own, because a library's logger is set up once."""
    environment = {key: value for key, value in os.environ.items() if key != "EVOTORCH_VERBOSE_LEVEL"}
    code = (
        "import logging, os\nfrom gls_es.problems.digits import DigitsCNN3\nDigitsCNN3()\n"
        "print(os.environ.get('EVOTORCH_VERBOSE_LEVEL'), logging.getLogger().handlers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment if level is None else environment | {"EVOTORCH_VERBOSE_LEVEL": level},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == f"{level} []"
    assert ("Instance of `DigitsCNN3`" in done.stdout) is heard


def test_a_solution_becomes_a_module() -> None:
    """By EvoTorch's own name, ``parameterize_net``, and from weights or a Solution."""
    problem = Blobs()
    solution = problem.generate_batch(2)[1]
    for module in (problem.parameterize_net(solution.values), problem.network.module(solution)):
        assert torch.equal(parameters_to_vector(module.parameters()), solution.values.as_subclass(Tensor))
    with pytest.raises(ConfigError, match="weights of one member, not list"):
        problem.network.module([1.0])
