"""The whole benchmark at tiny sizes: what it reports, and that it compares the same thing. Never how fast."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from gls_es import bounds
from gls_es.basics.threads import workers
from gls_es.benchmark import METHODS, Sizes, benchmark, benchmark_network, comparison, open_problem, runner
from gls_es.benchmark.subject import Subject, population, problem_images, random_images
from gls_es.data import Dataset
from gls_es.errors import ConfigError, DataError
from gls_es.network import Network
from gls_es.problem import CertifiedTrainingProblem, registry

TINY = Sizes(threads=2, repeats=1, backward=True, gradient_members=2, matmul=16)


class Missing(CertifiedTrainingProblem):
    """A problem on 3x32x32 images that are not there."""

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))

    def make_data(self) -> Dataset:
        raise DataError("no images here; download them.")


class Misfit(Missing):
    """One whose network fits no usual shape."""

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(7, 4))


@pytest.fixture(scope="module")
def found() -> dict:
    return benchmark(open_problem("digits-cnn3"), ["crown", "ibp"], members=3, batch=2, sizes=TINY)


def test_the_report(found: dict) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    about = {key: found[key] for key in ("problem", "images", "parameters", "members", "batch", "eps", "dtype")}
    assert about == {
        "problem": "digits-cnn3",
        "images": "training",
        "parameters": 1258,
        "members": 3,
        "batch": 2,
        "eps": 0.1,
        "dtype": "float32",
    }
    assert list(found["methods"]) == ["crown", "ibp"]
    assert list(found["matmul_gflops"]) == ["1", "2"]


@pytest.mark.parametrize("method", ["crown", "ibp"])
def test_rates_belong_together(found: dict, method: str) -> None:
    forward = found["methods"][method]["forward"]
    assert math.isclose(forward["member_images_per_second"] * forward["seconds"], 6)
    assert math.isclose(forward["gflops"] * forward["seconds"], forward["gflop"])
    assert math.isclose(forward["peak_fraction"] * found["matmul_gflops"]["1"], forward["gflops"])
    assert forward["gflop"] >= 0.99 * forward["plain"]["gflop"] > 0  # the loop wastes nothing
    assert forward["peak_bytes"] > 1000
    assert found["methods"][method]["backward"]["members"] == 2


@pytest.mark.parametrize("kind", ["forward", "backward"])
@pytest.mark.parametrize("method", ["crown", "ibp"])
def test_the_loop_computes_the_same(found: dict, method: str, kind: str) -> None:
    plain = found["methods"][method][kind]["plain"]
    assert 0 <= plain["difference"] < 1e-4
    assert plain["ratio"] > 0


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_threads_are_compared(found: dict, kind: str) -> None:
    names = {"one_seconds", "intra_op_seconds", "shared_seconds", "intra_op_speedup", "shared_speedup"}
    assert set(found["methods"]["crown"][kind]["threads"]) == names


def test_each_way_to_use_threads_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, int]] = []
    original = comparison.image_losses

    def image_losses(*args, **kwargs):
        used.append((torch.get_num_threads(), workers()))
        return original(*args, **kwargs)

    monkeypatch.setattr(comparison, "image_losses", image_losses)
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)), (1, 2, 2))
    images, labels = random_images((1, 2, 2), 2, classes=2)
    subject = Subject.around(net, images, labels, eps=0.1, params=population(net.parameter_vector(), 2))
    benchmark_network(subject, ["ibp"], sizes=Sizes(threads=2, repeats=1, loops=(), matmul=16))
    one, whole, shares = (1, 1), (2, 1), (1, 2)  # (threads inside an operation, threads that share the work)
    forward = [one] * 4  # operations counted, memory counted, and an untimed and a timed round
    turns = [one, whole, shares, shares] * 2  # two members are two shares
    assert sorted(used) == sorted(forward + turns)
    assert torch.get_num_threads() == 1


def test_every_relaxation_can_be_timed() -> None:
    said: list[str] = []
    sizes = Sizes(repeats=1, backward=True, gradient_members=1, matmul=16)
    problem = open_problem("digits-cnn3")
    report = benchmark(problem, list(bounds.METHODS), members=1, batch=1, sizes=sizes, progress=said.append)
    names = list(dict.fromkeys(method.name for method in bounds.METHODS.values()))  # deeppoly is crown
    assert list(report["methods"]) == names
    assert said == ["matrix products", *names]
    for name, table in report["methods"].items():
        assert ("missing" in table["forward"]["plain"]) == (name not in METHODS)
        assert ("backward" in table) == bounds.METHODS[name].gradient
        assert "threads" not in table


def test_a_network_that_the_loop_does_not_know_is_timed_alone() -> None:
    net = Network(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (1, 4, 4))
    images, labels = random_images((1, 4, 4), 2, classes=2)
    subject = Subject.around(net, images, labels, eps=0.1, params=population(net.parameter_vector(), 2))
    forward = benchmark_network(subject, ["crown"], sizes=Sizes(repeats=1, matmul=16))["methods"]["crown"]["forward"]
    assert "the plain loop bounds sequences of layers only" in forward["plain"]["missing"]
    assert forward["seconds"] > 0
    alone = benchmark_network(subject, ["ibp"], sizes=Sizes(repeats=1, matmul=16, loops=()))["methods"]["ibp"]
    assert alone["forward"]["plain"] == alone["forward"]["auto_lirpa"] == {"missing": "not asked for"}


@pytest.mark.parametrize("keep", [True, False])
def test_the_allocator_is_left_alone_on_request(monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    called: list[bool] = []
    monkeypatch.setattr(runner, "keep_freed_memory", lambda: called.append(True))
    sizes = Sizes(repeats=1, matmul=16, loops=(), keep_freed=keep)
    report = benchmark(open_problem("digits-cnn3"), ["ibp"], members=1, batch=1, sizes=sizes)
    assert report["keep_freed"] is keep
    assert called == [True] * keep


def test_missing_data_are_replaced_by_random_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "resolve", lambda name: Missing)
    problem = open_problem("any", eps=0.25, seed=None)
    assert problem.network.input_shape == (3, 32, 32)
    assert problem.eps == 0.25
    images, labels, source = problem_images(problem, 5)
    assert images.shape == (5, 3, 32, 32)
    assert labels.shape == (5,)
    assert source == "random"
    assert benchmark(problem, ["ibp"], members=1, batch=1, sizes=Sizes(repeats=1, matmul=16))["images"] == "random"


def test_a_network_that_fits_no_usual_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "resolve", lambda name: Misfit)
    with pytest.raises(
        ConfigError, match=r"data are missing .no images here; download them.., and no usual image shape"
    ):
        open_problem("any")


def test_too_few_images_are_repeated() -> None:
    problem = open_problem("digits-cnn3")
    count = len(problem.data.train)
    images, labels, _ = problem_images(problem, count + 3)
    assert torch.equal(images[:3], images[count:])
    assert torch.equal(labels[:3], labels[count:])


@pytest.mark.parametrize(
    ("methods", "sizes", "said"),
    [
        ([], {}, "name at least one method"),
        (["crwn"], {}, "did you mean 'crown'"),
        (["ibp"], {"members": 0}, "members must be at least 1"),
        (["ibp"], {"batch": 0}, "batch must be at least 1"),
    ],
)
def test_wrong_arguments(methods: list[str], sizes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        benchmark(open_problem("digits-cnn3"), methods, **sizes)


@pytest.mark.parametrize("name", ["threads", "repeats", "gradient_members"])
def test_sizes_are_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, not 0"):
        Sizes(**{name: 0})
