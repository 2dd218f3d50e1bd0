"""auto_LiRPA's loop, against a stand-in with its interface that computes with the plain loop."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from gls_es import bounds
from gls_es.benchmark import Sizes, benchmark_network, peer
from gls_es.benchmark.plain import PlainLoop
from gls_es.benchmark.plain_net import PlainNet
from gls_es.benchmark.subject import Subject, population, random_images
from gls_es.network import Network

METHODS = {"IBP": "ibp", "CROWN-IBP": "crown-ibp", "CROWN": "crown"}


class Bounded(nn.Module):
    """Renames the parameters and turns their order round; bounds the way the caller asks for."""

    built: ClassVar[list[dict]] = []

    def __init__(self, module: nn.Module, x: Tensor, *, bound_opts: dict, device: torch.device) -> None:
        super().__init__()
        Bounded.built.append(bound_opts)
        self.shape = tuple(x.shape[1:])
        self.inner = module
        self.renamed = nn.ParameterList(reversed(list(module.parameters())))

    def parameters(self, recurse: bool = True):
        return iter(list(self.renamed))

    def compute_bounds(self, x: tuple, C: Tensor, method: str, bound_upper: bool) -> tuple[Tensor, None]:
        assert bound_upper is False
        net = Network(self.inner, self.shape)
        labels = (C[:, 0] > 0).float().argmax(1)
        # row j of C is e_y - e_j for the other classes in ascending order
        assert all(C[b, :, y].eq(1).all() and C[b].sum(1).eq(0).all() for b, y in enumerate(labels))
        box = x[0]
        params = net.parameter_vector()[None]
        return PlainLoop(PlainNet(net), METHODS[method]).margins(box.lower, box.upper, labels, params)[0], None


class Box:
    def __init__(self, images: Tensor, ball: dict) -> None:
        self.lower, self.upper = ball["x_L"], ball["x_U"]
        assert ball["norm"] == float("inf")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("auto_LiRPA")
    module.__version__ = "0.7.1"
    module.BoundedModule, module.BoundedTensor = Bounded, Box
    module.PerturbationLpNorm = lambda **options: options
    Bounded.built.clear()
    monkeypatch.setitem(sys.modules, "auto_LiRPA", module)
    return module


@pytest.fixture
def subject() -> Subject:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3), nn.ReLU(), nn.Linear(3, 3))
    net = Network(nn.Sequential(*layers), (1, 8, 8))  # biases of one shape, so that places must be told apart
    images, labels = random_images((1, 8, 8), 2, classes=3)
    return Subject.around(net, images, labels, eps=0.1, params=population(net.parameter_vector(), 3, sigma=0.1))


@pytest.mark.parametrize("method", peer.NAMES)
def test_every_member_is_bounded_with_its_own_weights(package: ModuleType, subject: Subject, method: str) -> None:
    loops, reason = peer.peer_loops(subject, method)
    assert reason is None
    wanted = bounds.margins(subject.net, subject.lower, subject.upper, subject.labels, method, subject.params)
    for loop in loops.values():
        assert torch.allclose(loop(), wanted, atol=1e-5)


def test_pure_bounds_and_its_default_are_both_timed(package: ModuleType, subject: Subject) -> None:
    forward = benchmark_network(subject, ["crown", "ibp"], sizes=Sizes(repeats=1, matmul=16))["methods"]
    assert Bounded.built == [{"sparse_intermediate_bounds": False}, {}, {"sparse_intermediate_bounds": False}]
    for name in ("auto_lirpa", "auto_lirpa_default"):
        assert forward["crown"]["forward"][name]["ratio"] > 0
        assert forward["crown"]["forward"][name]["difference"] < 1e-4
    assert "auto_lirpa_default" not in forward["ibp"]["forward"]


def test_other_relaxations_are_not_compared(package: ModuleType, subject: Subject) -> None:
    assert peer.peer_loops(subject, "crown-zero") == ({}, "auto_LiRPA is not compared on crown-zero")


@pytest.mark.parametrize(("version", "known"), [("0.4.9", False), ("0.5", True), ("0.5.0rc1", True), ("1.0", True)])
def test_versions(package: ModuleType, version: str, known: bool) -> None:
    package.__version__ = version
    assert (peer.auto_lirpa() is package) is known


def test_without_it_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    assert peer.peer_loops(subject, "crown") == ({}, "auto_LiRPA >= 0.5 is not installed")


def test_its_failures_end_nothing(package: ModuleType, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("it has changed\nand more")

    monkeypatch.setattr(Bounded, "compute_bounds", fail)
    assert peer.peer_loops(subject, "ibp") == ({}, "auto_LiRPA failed: TypeError: it has changed")


def test_parameters_it_does_not_show_are_noticed(
    package: ModuleType, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bounded, "parameters", lambda self, recurse=True: iter(list(self.renamed)[1:]))
    _, reason = peer.peer_loops(subject, "ibp")
    assert reason == "auto_LiRPA failed: RuntimeError: auto_LiRPA keeps the parameters in another form"
