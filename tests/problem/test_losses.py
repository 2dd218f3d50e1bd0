"""A problem's loss: which relaxation goes with it, its attacks by generation, and every searcher on it."""

from typing import Any

import pytest
import torch
from evotorch.algorithms import PGPE
from torch import Tensor

from gls_es import RGS
from gls_es.fitness import LOSSES, Attack, Stage, member_losses
from gls_es.network.initialisation import initialise
from gls_es.problem.population import PopulationProblem

from .toys import Blobs, perceptron


def searcher(name: str, problem: PopulationProblem) -> Any:
    if name == "pgpe":
        return PGPE(
            problem, popsize=30, center_learning_rate=0.1, stdev_learning_rate=0.0, stdev_init=0.05, optimizer="adam",
            ranking_method="raw",
        )  # fmt: skip
    noise = {"popsize": 3, "stdev_init": 0.02} if name == "rgs" else {"popsize": 1, "stdev_init": 0.0}
    return RGS(problem, center_learning_rate=0.1, **noise)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("name", ["grad", "rgs", "pgpe"])
def test_every_searcher_minimises_every_loss(name: str, loss: str) -> None:
    problem = Blobs(batch_size=20, eps=0.05, loss=loss)
    center = problem.network.parameter_vector()
    search = searcher(name, problem)
    search.run(25)
    before, after = problem.losses(torch.stack([center, search.status["center"].as_subclass(Tensor)]))
    assert float(after) < 0.8 * float(before)


@pytest.mark.parametrize(
    ("loss", "given", "wanted"),
    [
        ("robust", None, "crown"),
        ("natural", None, "crown"),
        ("sabr", None, "ibp"),
        ("mtl-ibp", None, "ibp"),
        ("crown-ibp", None, "crown-ibp"),
        ("sabr", "crown", "crown"),
    ],
)
def test_the_relaxation_that_goes_with_a_loss(loss: str, given: str | None, wanted: str) -> None:
    problem = Blobs(loss=loss, method=given)
    assert (problem.loss, problem.method) == (loss, wanted)
    assert (problem.stage.loss, problem.stage.method) == (loss, wanted)


def test_attacks_depend_on_the_seed_and_the_generation() -> None:
    problem, same, other = (Blobs(loss="adversarial", batch_size=20, seed=seed) for seed in (1, 1, 2))
    starts = []
    for made, generation in ((problem, 0), (problem, 3), (same, 3), (other, 3)):
        made.begin(generation)
        assert made.minibatch.starts is not None
        starts.append(made.minibatch.starts)
    assert torch.equal(starts[1], starts[2])
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[3])


def test_only_attacks_need_starts() -> None:
    for loss in LOSSES:
        problem = Blobs(loss=loss)
        assert (problem.minibatch.starts is not None) == LOSSES[loss].attacks
    problem.stages = lambda _: Stage(0.0, 0.0, "ibp", "sabr")
    problem.begin(0)
    assert problem.minibatch.starts is None


@pytest.mark.parametrize("threads", [1, 3])
def test_stages_reach_populations_and_gradients(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Blobs(batch_size=7, l1=0.01)
    stage = Stage(0.1, 0.2, "ibp", "sabr", Attack(3, 0.5, 2, 1.5), sabr_lambda=0.7, regularizer=0.4)
    problem.stages = lambda _: stage
    problem.begin(0)
    values = problem.network.parameter_vector() + 0.3 * torch.randn(5, problem.network.num_parameters)
    wanted = member_losses(problem.network, problem.minibatch, values, l1=0.01)
    assert problem.minibatch.starts is not None
    assert len(problem.minibatch.starts) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    batch = problem.generate_batch(5)
    batch.set_values(values)
    problem.evaluate(batch)
    assert torch.allclose(batch.evals[:, 0].as_subclass(Tensor), wanted, rtol=1e-5)
    problem.begin(0)
    gradient = problem.evaluate_with_gradient(batch)
    assert torch.allclose(batch.evals[:, 0].as_subclass(Tensor), wanted, rtol=1e-5)
    leaf = values.clone().requires_grad_()
    (each,) = torch.autograd.grad(member_losses(problem.network, problem.minibatch, leaf, l1=0.01).sum(), leaf)
    assert torch.allclose(gradient, each.mean(0), rtol=1e-4, atol=1e-6)


def test_initial_weights_come_from_the_seed() -> None:
    plain, first, same, other = (
        Blobs(initial_weights=kind, seed=seed) for kind, seed in (("default", 1), ("ibp", 1), ("ibp", 1), ("ibp", 2))
    )
    vectors = [problem.network.parameter_vector() for problem in (plain, first, same, other)]
    assert torch.equal(vectors[1], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[1], vectors[3])
    assert not first.network.module()[0].bias.any()  # type: ignore[index]
    values = first.generate_values(3)
    assert torch.equal(values[0], vectors[1])
    assert len({tuple(row.tolist()) for row in values}) == 3
    assert not values[2][24:30].any()  # the first layer's biases, of members made anew, too
    torch.manual_seed(0)
    assert [p.shape for p in initialise(perceptron(), "ibp").parameters()] == [(6, 4), (6,), (3, 6), (3,)]


def test_chosen_images_stand_for_all_of_them() -> None:
    """Averaged over generations, losses away from the center are those on all candidates under the method."""
    problem = Blobs(batch_size=5, seed=1)
    problem.stages = lambda _: Stage(0.1, 0.0, "crown", stand_in="ibp", exact_images=2, candidates=4)
    center = problem.network.parameter_vector()
    values = center + 0.5 * torch.randn(3, len(center), generator=torch.Generator().manual_seed(0))
    whole = Blobs(batch_size=20)
    wanted = whole.losses(values).double()
    found = []
    for generation in range(600):
        problem.begin(generation)
        problem.choose_images(center)
        assert len(problem.minibatch) == 5
        found.append(problem.losses(values).double())
    losses = torch.stack(found)
    error = losses.std(0) / 600**0.5
    assert ((losses.mean(0) - wanted).abs() < 4 * error).all()
    assert (error < 0.03 * wanted).all()


def test_the_choice_depends_on_seed_generation_and_center_alone() -> None:
    def images(seed: int, generation: int, *centers: Tensor) -> Tensor:
        problem = Blobs(batch_size=5, seed=seed)
        problem.stages = lambda _: Stage(0.1, 0.0, "ibp", candidates=3)
        problem.begin(generation)
        for center in centers:
            problem.choose_images(center)
        return problem.minibatch.images

    first, second = (3 * torch.randn(2, Blobs().solution_length, generator=torch.Generator().manual_seed(2))).unbind()
    assert torch.equal(images(0, 3, first), images(0, 3, second, first))
    for other in (images(1, 3, first), images(0, 4, first), images(0, 3, second), images(0, 3)):
        assert not torch.equal(images(0, 3, first), other)
    problem = Blobs(batch_size=5)
    problem.begin(3)
    plain = problem.minibatch
    problem.choose_images(first)  # without candidates there is nothing to choose
    assert problem.minibatch is plain
