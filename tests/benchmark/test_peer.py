"""auto_LiRPA's loop, against a stand-in with its interface that computes with the plain loop."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from gls_es import bounds
from gls_es.benchmark import Sizes, benchmark_network, peer
from gls_es.benchmark.plain import PlainLoop
from gls_es.benchmark.plain_net import PlainNet
from gls_es.benchmark.subject import Subject, population, random_images
from gls_es.network import Network

METHODS = {"IBP": "ibp", "CROWN-IBP": "crown-ibp", "CROWN": "crown"}


class Renamed(nn.Module):
    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__()
        self.param = parameter


class Bounded(nn.Module):
    """A node for each parameter, in another order; bounds the way the caller asks for."""

    built: ClassVar[list[dict]] = []
    shown: ClassVar[slice] = slice(None)

    def __init__(self, module: nn.Module, x: Tensor, *, bound_opts: dict, device: torch.device) -> None:
        super().__init__()
        Bounded.built.append(bound_opts)
        self.shape = tuple(x.shape[1:])
        self.inner = (Network(module, self.shape), module)  # no child
        for index, parameter in enumerate(list(module.parameters())[::-1][self.shown]):
            self.add_module(f"/{index}", Renamed(parameter))

    def parameters(self, recurse: bool = True):
        raise TypeError("as in version 0.3 beside a newer PyTorch")

    def compute_bounds(self, x: tuple, C: Tensor, method: str, bound_upper: bool) -> tuple[Tensor, None]:
        assert bound_upper is False
        net, module = self.inner
        labels = (C[:, 0] > 0).float().argmax(1)
        # row j of C is e_y - e_j for the other classes in ascending order
        assert all(C[b, :, y].eq(1).all() and C[b].sum(1).eq(0).all() for b, y in enumerate(labels))
        box = x[0]
        params = parameters_to_vector(module.parameters())[None].detach()
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


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_every_member_is_bounded_with_its_own_weights(package: ModuleType, subject: Subject, method: str) -> None:
    loops, reason = peer.peer_loops(subject, method)
    assert reason is None
    wanted = bounds.margins(subject.net, subject.lower, subject.upper, subject.labels, method, subject.params)
    for loop in loops.values():
        assert torch.allclose(loop.margins(subject.params), wanted, atol=1e-5)


def test_pure_bounds_and_its_default_are_both_timed(package: ModuleType, subject: Subject) -> None:
    forward = benchmark_network(subject, ["crown", "ibp"], sizes=Sizes(repeats=1, matmul=16))["methods"]
    pure = {"conv_mode": "patches", "sparse_intermediate_bounds": False}
    assert Bounded.built == [pure, {"conv_mode": "patches"}, pure]
    for name in ("auto_lirpa", "auto_lirpa_default"):
        found = forward["crown"]["forward"][name]
        assert min(found["ratio"], found["cpu_ratio"], found["peak_bytes"]) > 0
        assert found["difference"] < 1e-4
        assert (found["version"], found["conv_mode"]) == ("0.7.1", "patches")
    assert "auto_lirpa_default" not in forward["ibp"]["forward"]


def test_unstable_neurons_alone_are_compared_with_its_default(package: ModuleType, subject: Subject) -> None:
    forward = benchmark_network(subject, ["crown-unstable"], sizes=Sizes(repeats=1, matmul=16))["methods"]
    assert Bounded.built == [{"conv_mode": "patches"}]
    assert forward["crown-unstable"]["forward"]["auto_lirpa"] == {"missing": "only its default is compared"}
    assert forward["crown-unstable"]["forward"]["auto_lirpa_default"]["ratio"] > 0


def test_other_relaxations_are_not_compared(package: ModuleType, subject: Subject) -> None:
    assert peer.peer_loops(subject, "crown-zero") == ({}, "auto_LiRPA is not compared on crown-zero")


def test_a_single_pass_gets_the_quicker_form(
    package: ModuleType, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def quickest(works: dict, *, device: torch.device) -> str:
        tried.extend(works)
        return "matrix"

    monkeypatch.setattr(peer, "quickest", quickest)
    loops, _ = peer.peer_loops(subject, "crown-ibp")
    assert tried == ["patches", "matrix"]
    assert loops["auto_lirpa"].about["conv_mode"] == "matrix"


@pytest.mark.parametrize(
    ("version", "known"), [("0.2", False), ("0.3", True), ("0.5.0rc1", True), ("0.10", True), ("1.0", True)]
)
def test_versions(package: ModuleType, subject: Subject, version: str, known: bool) -> None:
    package.__version__ = version
    reason = None if known else f"auto_LiRPA {version} is older than 0.3"
    assert peer.peer_loops(subject, "ibp")[1] == reason


def test_without_it_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    assert peer.peer_loops(subject, "crown") == ({}, "auto_LiRPA is not installed")


def test_one_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    def load() -> ModuleType:
        raise ModuleNotFoundError("No module named 'appdirs'", name="appdirs")

    monkeypatch.setattr(peer.peer_shim, "load", load)
    reason = "auto_LiRPA failed: ModuleNotFoundError: No module named 'appdirs'"
    assert peer.peer_loops(subject, "crown") == ({}, reason)


def test_its_failures_end_nothing(package: ModuleType, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("it has changed\nand more")

    monkeypatch.setattr(Bounded, "compute_bounds", fail)
    assert peer.peer_loops(subject, "ibp") == ({}, "auto_LiRPA failed: TypeError: it has changed")


def test_parameters_it_does_not_show_are_noticed(
    package: ModuleType, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bounded, "shown", slice(1, None))
    _, reason = peer.peer_loops(subject, "ibp")
    assert reason == "auto_LiRPA failed: RuntimeError: auto_LiRPA keeps the parameters in another form"


@pytest.mark.skipif(importlib.util.find_spec("auto_LiRPA") is None, reason="auto_LiRPA is not installed")
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_the_package_itself_gives_our_bounds(subject: Subject, method: str) -> None:
    loops, reason = peer.peer_loops(subject, method)
    assert reason is None
    wanted = bounds.margins(subject.net, subject.lower, subject.upper, subject.labels, method, subject.params)
    assert torch.allclose(loops["auto_lirpa"].margins(subject.params), wanted, rtol=1e-5, atol=1e-6)
