"""The fitness against a loop over members and images, and against autograd."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from gls_es import bounds
from gls_es.fitness import Minibatch, Stage, image_losses, mean_gradient
from gls_es.problem import CertifiedTrainingProblem

from .toys import Blobs, ScaledBlobs

EPS = 0.07


def members(problem: CertifiedTrainingProblem, count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    center = problem.network.parameter_vector()
    return center + 0.3 * torch.randn(count, len(center), generator=generator)


def by_hand(
    problem: CertifiedTrainingProblem, weights: Tensor, method: str, natural_weight: float, l1: float
) -> Tensor:
    """One member's loss, one image after the other, in float64, from nothing but bounds and the module itself."""
    batch = problem.minibatch
    module = problem.network.module().double()
    parts = weights.double().split([parameter.numel() for parameter in module.parameters()])
    named = {name: part.view_as(p) for part, (name, p) in zip(parts, module.named_parameters(), strict=True)}
    total = 0.0
    for image, label in zip(batch.images.double(), batch.labels, strict=True):
        lower, upper = (image - EPS).clamp(min=0), (image + EPS).clamp(max=1)
        margin = bounds.margins(problem.network, lower[None], upper[None], label[None], method, weights.double()[None])[
            0, 0
        ]
        robust = torch.log(1 + torch.exp(-margin).sum())
        natural = -torch.log_softmax(functional_call(module, named, image[None])[0], 0)[label]
        total = total + ((1 - natural_weight) * robust + natural_weight * natural) / len(batch)
    return total + l1 * weights.double().abs().sum()


@pytest.mark.parametrize("cls", [Blobs, ScaledBlobs])
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize(("natural_weight", "l1"), [(0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (0.25, 0.01)])
def test_the_fitness_is_the_mean_robust_cross_entropy(
    cls: type[CertifiedTrainingProblem], method: str, natural_weight: float, l1: float
) -> None:
    problem = cls(eps=EPS, method=method, batch_size=7, natural_weight=natural_weight, l1=l1)
    problem.begin(0)
    values = members(problem)
    wanted = torch.stack([by_hand(problem, member, method, natural_weight, l1) for member in values]).float()
    assert torch.allclose(problem.losses(values), wanted, rtol=1e-5)
    batch = problem.generate_batch(len(values))
    batch.set_values(values)
    problem.begin(0)
    problem.evaluate(batch)
    assert torch.allclose(batch.evals[:, 0].as_subclass(Tensor), wanted, rtol=1e-5)


def test_pixels_outside_the_unit_interval_are_not_in_the_box() -> None:
    batch = Blobs(eps=0.5, batch_size=64).minibatch
    lower, upper = batch.box.centre - batch.box.radius, batch.box.centre + batch.box.radius
    assert torch.allclose(lower, (batch.images - 0.5).clamp(min=0), atol=1e-6)
    assert torch.allclose(upper, (batch.images + 0.5).clamp(max=1), atol=1e-6)
    assert bool((lower < 1e-6).any() and (upper > 1 - 1e-6).any())


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_a_box_of_radius_zero_gives_the_natural_cross_entropy(method: str) -> None:
    problem = Blobs(eps=0.0, method=method, batch_size=9)
    values = members(problem)
    images, labels = problem.minibatch.images, problem.minibatch.labels
    wanted = [torch.nn.functional.cross_entropy(problem.network.module(v)(images), labels) for v in values]
    assert torch.allclose(problem.losses(values), torch.stack(wanted), rtol=1e-5)
    tiny = Minibatch.prepare(problem.network, images, labels, Stage(1e-7, 0.0, method))  # no short cut there
    assert torch.allclose(image_losses(problem.network, tiny, values).mean(1), torch.stack(wanted), rtol=1e-4)


@pytest.mark.parametrize("natural_weight", [0.0, 0.4])
def test_a_larger_box_has_a_larger_loss(natural_weight: float) -> None:
    losses = []
    for eps in (0.0, 0.02, 0.1, 0.3):
        problem = Blobs(eps=eps, natural_weight=natural_weight)
        losses.append(problem.losses(members(problem)))
    rows = torch.stack(losses)
    assert bool((rows.diff(dim=0) > 0).all())


@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_chunks_and_memory_budgets_change_nothing(method: str) -> None:
    roomy, tight = (Blobs(eps=EPS, method=method, memory_budget=budget) for budget in (1 << 30, 1 << 20))
    values = members(roomy, 40)
    wanted = roomy.losses(values)
    assert torch.allclose(tight.losses(values), wanted, rtol=1e-6)
    tight.memory_budget = 16 * values[0].numel() * 4 * 3  # three members at a time; the constructor refuses so little
    batch = tight.generate_batch(len(values))
    batch.set_values(values)
    calls: list[int] = []
    inner = tight.losses
    tight.losses = lambda part: (calls.append(len(part)), inner(part))[1]  # type: ignore[method-assign]
    tight.begin(0)
    tight.evaluate(batch)
    assert calls == [3] * 13 + [1]
    assert torch.allclose(batch.evals[:, 0].as_subclass(Tensor), wanted, rtol=1e-6)


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Blobs(eps=EPS, batch_size=7)
    values = members(problem, 10)
    wanted = problem.losses(values)
    names = set()
    inner = problem.losses
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    problem.losses = lambda part: (names.add(threading.current_thread().name), inner(part))[1]  # type: ignore[method-assign]
    batch = problem.generate_batch(len(values))
    batch.set_values(values)
    problem.begin(0)
    problem.evaluate(batch)
    assert threading.current_thread().name not in names
    assert torch.allclose(batch.evals[:, 0].as_subclass(Tensor), wanted, rtol=1e-6)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("budget", [1, 20_000, 1 << 30])
@pytest.mark.parametrize(("natural_weight", "l1"), [(0.0, 0.0), (0.3, 0.02)])
def test_the_mean_gradient_is_that_of_the_mean_loss(method: str, budget: int, natural_weight: float, l1: float) -> None:
    problem = Blobs(eps=EPS, method=method, batch_size=7, natural_weight=natural_weight, l1=l1)
    values = members(problem)
    losses, gradient = mean_gradient(problem.network, problem.minibatch, values, l1=l1, budget=budget)
    leaf = values.clone().requires_grad_()
    wanted = torch.stack([by_hand(problem, member, method, natural_weight, l1) for member in leaf])
    (per_member,) = torch.autograd.grad(wanted.sum(), leaf)
    assert torch.allclose(losses, wanted.float(), rtol=1e-5)
    assert torch.allclose(gradient, per_member.mean(0), rtol=1e-4, atol=1e-6)


def test_the_mean_gradient_agrees_with_finite_differences() -> None:
    problem = Blobs(eps=EPS, method="ibp", batch_size=7)
    center = members(problem, 1)
    _, gradient = mean_gradient(problem.network, problem.minibatch, center)
    direction = torch.randn(center.shape[1], generator=torch.Generator().manual_seed(2))
    step = 1e-3 * direction / direction.norm()
    ahead, behind = problem.losses(torch.cat([center + step, center - step])).double()
    assert float(ahead - behind) == pytest.approx(float(2 * gradient @ step), rel=2e-2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_member_is_left_out_of_the_mean_gradient(bad: float) -> None:
    problem = Blobs(eps=EPS, batch_size=7)
    values = members(problem)
    spoiled = values.clone()
    spoiled[1, 3] = bad
    losses, gradient = mean_gradient(problem.network, problem.minibatch, spoiled)
    _, wanted = mean_gradient(problem.network, problem.minibatch, values[[0, 2, 3, 4]])
    assert torch.equal(torch.isfinite(losses), torch.tensor([True, False, True, True, True]))
    assert torch.equal(gradient, wanted)


def test_no_member_left_means_no_direction() -> None:
    problem = Blobs(eps=EPS)
    losses, gradient = mean_gradient(problem.network, problem.minibatch, members(problem) * torch.nan)
    assert bool(losses.isnan().all())
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("eps", -0.1),
        ("eps", 1.5),
        ("eps", float("nan")),
        ("method", "crwon"),
        ("batch_size", 0),
        ("natural_weight", -0.1),
        ("natural_weight", 2),
        ("l1", -1.0),
        ("l1", float("inf")),
        ("seed", -1),
        ("memory_budget", 1000),
        ("loss", "robast"),
        ("initial_weights", "xavier"),
        ("initial_weights", ["ibp"]),
        ("eps", [0.1, 0.2]),
        ("eps", "8:255"),
        ("eps", True),
        ("seed", None),
        ("seed", 0.5),
        ("batch_size", 2.5),
        ("natural_weight", "much"),
        ("l1", None),
        ("validation", True),
        ("memory_budget", 1e9),
        ("data_root", 3),
        ("device", "quantum"),
        ("device", "cuda:99"),
        ("num_actors", -1),
        ("num_gpus_per_actor", -1),
        ("actor_config", 3),
    ],
)
def test_arguments_that_make_no_sense(argument: str, value: Any) -> None:
    hints = {"method": "did you mean 'crown'", "loss": "did you mean 'robust'"}
    with pytest.raises(ValueError, match=hints.get(argument, argument)):
        Blobs(**{argument: value})
