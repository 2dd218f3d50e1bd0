"""What a subclass writes, which minibatch a generation sees, and what happens to losses that are not finite."""

import pytest
import torch
from torch import Tensor, nn

from gls_es.data import Dataset
from gls_es.errors import ConfigError, TrainingError
from gls_es.fitness import Stage
from gls_es.problem import CertifiedTrainingProblem

from .toys import TRAIN, Blobs, Counting, Hole, Quadratic, Root, Scripted, WideBlobs, blobs


def population(problem: CertifiedTrainingProblem, count: int, spread: float = 0.5) -> object:
    batch = problem.generate_batch(count)
    generator = torch.Generator().manual_seed(4)
    batch.set_values(spread * torch.randn(count, problem.solution_length, generator=generator))
    return batch


# Generations --------------------------------------------------------------------------------------------------------


def test_all_members_of_a_generation_see_the_same_images() -> None:
    problem = Counting(batch_size=8, memory_budget=1 << 20)
    problem.memory_budget = 16 * problem.solution_length * 4 * 2
    for generation in range(3):
        problem.begin(generation)
        problem.evaluate(population(problem, 7))
    assert [n for _, _, n in problem.seen] == 3 * [2, 2, 2, 1]
    by_generation = [[images for g, images, _ in problem.seen if g == generation] for generation in range(3)]
    assert all(torch.equal(images, group[0]) for group in by_generation for images in group)
    assert not torch.equal(by_generation[0][0], by_generation[1][0])


def test_a_minibatch_depends_on_nothing_but_seed_and_generation() -> None:
    walked, jumped, other = Blobs(seed=3, batch_size=8), Blobs(seed=3, batch_size=8), Blobs(seed=4, batch_size=8)
    for generation in range(6):
        walked.begin(generation)
        walked.evaluate(population(walked, 2 + generation))
        torch.rand(generation)
    jumped.begin(5)
    other.begin(5)
    assert torch.equal(walked.minibatch.images, jumped.minibatch.images)
    assert torch.equal(walked.minibatch.labels, jumped.minibatch.labels)
    assert not torch.equal(walked.minibatch.images, other.minibatch.images)


def test_the_images_of_an_epoch_are_all_images() -> None:
    problem = Blobs(batch_size=5)
    seen = []
    for generation in range(TRAIN // 5):
        problem.begin(generation)
        seen.append(problem.minibatch.images)
    every = problem.data.train.batch()[0]
    assert torch.equal(torch.cat(seen).sort(0).values, every.sort(0).values)


def test_without_a_loop_every_evaluation_is_the_next_generation() -> None:
    problem = Blobs()
    for generation in range(3):
        problem.evaluate(population(problem, 2))
        assert problem.generation == generation
        assert problem.status["generation"] == generation


def test_a_generation_that_was_begun_is_not_begun_again() -> None:
    problem = Blobs()
    problem.begin(7)
    problem.evaluate(population(problem, 2))
    assert problem.generation == 7
    problem.evaluate(population(problem, 2))
    assert problem.generation == 8
    problem.begin(2)
    problem.evaluate_with_gradient(population(problem, 2))
    assert problem.generation == 2


def test_stages_follow_the_generation_and_reach_the_status() -> None:
    problem = Blobs(eps=0.2)
    assert problem.stage == Stage(0.2, 0.0, "crown")
    problem.stages = lambda generation: Stage(0.01 * generation, 0.5, "ibp")
    problem.begin(3)
    assert problem.minibatch.stage == Stage(0.03, 0.5, "ibp")
    problem.evaluate(population(problem, 2))
    assert problem.status["eps"] == 0.03


def test_an_actor_gets_generation_and_stage_from_the_main_process() -> None:
    main, actor = (Blobs(seed=1, batch_size=8) for _ in range(2))
    main.stages = lambda generation: Stage(0.01 * generation, 0.25, "ibp")
    main.begin(4)
    actor._use_sync_data_from_main(main._make_sync_data_for_actors())
    assert (actor.generation, actor.minibatch.stage) == (4, Stage(0.04, 0.25, "ibp"))
    assert torch.equal(actor.minibatch.images, main.minibatch.images)


def test_the_data_do_not_travel_to_actors() -> None:
    problem = Blobs()
    assert problem.minibatch.images.numel() > 0
    copy = problem.clone()
    assert copy._data is None
    assert copy._batch is None
    assert torch.equal(copy.losses(copy.generate_values(2)), problem.losses(problem.generate_values(2)))


# Initial weights ----------------------------------------------------------------------------------------------------


def test_initial_weights_are_torchs_own_and_follow_the_seed() -> None:
    one, same, other = Blobs(seed=1), Blobs(seed=1), Blobs(seed=2)
    assert torch.equal(one.network.parameter_vector(), same.network.parameter_vector())
    assert not torch.equal(one.network.parameter_vector(), other.network.parameter_vector())
    first = one.network.module()[0]
    assert float(first.weight.detach().abs().max()) <= 0.5  # U(-1/sqrt(4), 1/sqrt(4))
    before = torch.get_rng_state()
    Blobs(seed=5)
    assert torch.equal(before, torch.get_rng_state())


def test_generated_solutions_are_initial_networks() -> None:
    problem = Blobs()
    values = problem.generate_values(3)
    assert torch.equal(values[0].as_subclass(Tensor), problem.network.parameter_vector())
    assert not torch.equal(values[0], values[1])
    assert not torch.equal(values[1], values[2])
    assert float(values.abs().max()) <= 0.5
    assert torch.equal(values, Blobs().generate_values(3))


# Losses that are not finite -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_becomes_the_worst_finite_loss_and_is_counted(bad: float) -> None:
    problem = Scripted(size=4)
    problem.script = torch.tensor([2.0, bad, -1.0, 5.0, bad])
    batch = population(problem, 5)
    problem.evaluate(batch)
    assert batch.evals[:, 0].tolist() == [2.0, 5.0, -1.0, 5.0, 5.0]
    assert problem.status["nonfinite"] == 2
    problem.script = torch.arange(5.0)
    problem.evaluate(batch)
    assert problem.status["nonfinite"] == 0


def test_nothing_finite_is_an_error() -> None:
    problem = Scripted(size=4)
    problem.script = torch.full((3,), torch.nan)
    with pytest.raises(TrainingError, match="no member of generation 0 has a finite loss"):
        problem.evaluate(population(problem, 3))
    with pytest.raises(TrainingError, match="no member of generation 1 has a finite loss"):
        problem.evaluate_with_gradient(population(problem, 3))


def test_an_actor_leaves_its_piece_of_a_population_to_the_main_process() -> None:
    problem = Scripted(size=4)
    problem.script = torch.tensor([torch.nan, torch.nan])
    problem._actor_index = 0
    batch = population(problem, 2)
    problem.evaluate(batch)  # no error: the other pieces may hold finite losses
    assert bool(batch.evals[:, 0].isnan().all())


def test_the_mean_gradient_leaves_bad_members_out() -> None:
    problem = Hole()
    batch = population(problem, 40, spread=1.0)
    outside = batch.values[:, 0] > 1
    assert 2 < int(outside.sum()) < 20
    gradient = problem.evaluate_with_gradient(batch)
    assert torch.allclose(gradient, torch.tensor([-1.0, 0.0]))
    assert problem.status["nonfinite"] == int(outside.sum())
    worst = (-batch.values[:, 0])[~outside].max()
    assert bool((batch.evals[:, 0][outside] == worst).all())


def test_a_gradient_that_is_not_finite_does_not_spoil_the_others() -> None:
    problem = Root()
    batch = population(problem, 40)
    inside = batch.values[:, 0].as_subclass(Tensor) > 0
    gradient = problem.evaluate_with_gradient(batch)
    slopes = 0.5 / batch.values[:, 0].as_subclass(Tensor)[inside].sqrt()
    assert torch.allclose(gradient, torch.stack([slopes.mean(), torch.tensor(1.0)]))
    assert problem.status["nonfinite"] == int((~inside).sum())


def test_a_finite_loss_without_a_finite_gradient_is_not_passed_over_in_silence() -> None:
    problem = Root()
    batch = problem.generate_batch(1)
    batch.set_values(torch.zeros(1, 2))  # the root's slope at 0 is infinite
    with pytest.raises(TrainingError, match="generation 0"):
        problem.evaluate_with_gradient(batch)


def test_an_overridden_loss_gives_gradients_too() -> None:
    problem = Quadratic()
    batch = population(problem, 9)
    leaf = batch.values.as_subclass(Tensor).clone().requires_grad_()
    (wanted,) = torch.autograd.grad(problem.losses(leaf).mean(), leaf)
    assert torch.allclose(problem.evaluate_with_gradient(batch), wanted.sum(0), atol=1e-6)


# What a subclass writes ---------------------------------------------------------------------------------------------


def test_the_arguments_of_the_outermost_constructor_are_remembered() -> None:
    assert WideBlobs(7, eps=0.3).arguments == {"width": 7, "eps": 0.3}
    assert WideBlobs(width=8).arguments == {"width": 8}
    assert WideBlobs(device=torch.device("cpu")).arguments == {"device": "cpu"}  # a checkpoint holds no devices


def test_a_problem_is_rebuilt_without_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    original = WideBlobs(7, eps=0.3, seed=2)
    monkeypatch.setattr(WideBlobs, "make_data", lambda self: pytest.fail("the data are not needed"))
    problem = WideBlobs.rebuilt(original.arguments, (4,))
    assert (problem.width, problem.eps, problem.run_seed) == (7, 0.3, 2)
    assert torch.equal(problem.network.parameter_vector(), original.network.parameter_vector())
    with pytest.raises(ConfigError, match="cannot be rebuilt"):
        Blobs.rebuilt({"width": 7}, (4,))


class NoNetwork(Blobs):
    def make_network(self) -> nn.Module:
        return None  # type: ignore[return-value]


class NoData(Blobs):
    def make_data(self) -> Dataset:
        return torch.rand(3)  # type: ignore[return-value]


class FewLogits(Blobs):
    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 2))


class NothingWritten(CertifiedTrainingProblem):
    pass


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoNetwork, r"NoNetwork.make_network\(\) must return an nn.Module"),
        (NoData, r"NoData.make_data\(\) must return a gls_es.Dataset"),
        (FewLogits, "FewLogits: the network has 2 logits, the data 3 classes"),
    ],
)
def test_what_a_subclass_gets_wrong_is_named(cls: type[Blobs], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cls()


def test_what_a_subclass_must_write() -> None:
    with pytest.raises(ConfigError, match=r"NothingWritten must define make_network\(\)"):
        NothingWritten()


def test_the_data_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("tests.problem.toys.blobs", lambda: calls.append(1) or blobs())
    problem = Blobs()
    for generation in range(3):
        problem.begin(generation)
        assert len(problem.minibatch) == TRAIN
    assert len(calls) == 1
