"""A tracer that errs unnoticed: its wrong graphs must be stopped by the last look, wherever in the ball they differ."""

import copy
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gls_es.network.network as network_module
from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.certification import Verdict, certify, decide
from gls_es.certification.equality import LastLook

IMAGE, EPS = 0.5, 0.1


def _linear(weight: Sequence[Sequence[float]], bias: Sequence[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


# What is positive only near one point of the ball [0.4, 0.6]², by the name of the point.
PLACES: dict[str, Callable[[], nn.Module]] = {
    "image": lambda: nn.Sequential(
        _linear([[1, 0], [-1, 0], [0, 1], [0, -1]], [-IMAGE, IMAGE, -IMAGE, IMAGE]),
        nn.ReLU(),
        _linear([[-1, -1, -1, -1]], [0.01]),
    ),
    "lower end": lambda: _linear([[-1, -1]], [0.81]),
    "upper end": lambda: _linear([[1, 1]], [-1.19]),
    "corner": lambda: _linear([[1, -1]], [-0.19]),
}


class Near(nn.Module):
    """Logits (1, 0, -1e4), the first less by a little next to one point; the last hides that from relative checks."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place, self.relu, self.factor = PLACES[place](), nn.ReLU(), 1.0
        self.base = _linear([[0, 0]] * 3, [1, 0, -1e4])
        self.peak = _linear([[-1], [0], [0]], [0, 0, 0])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.base(x) + self.peak(self.factor * self.relu(self.place(x)))
        return logits


@pytest.fixture
def wrong_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph is one of a module whose factor is half a percent larger; its own checks see nothing of it."""
    honest = network_module.trace

    def trace(module: nn.Module, shape: tuple[int, ...]) -> Any:
        other = copy.deepcopy(module)
        for part in other.modules():
            if isinstance(part, Near):
                part.factor = 1.005
        return honest(other, shape)

    monkeypatch.setattr(network_module, "trace", trace)


def _verdict(place: str, seed: int = 0) -> Verdict:
    (verdict,) = certify(Near(place), torch.full((1, 2), IMAGE), [0], EPS, seed=seed).verdicts
    return verdict


def _unsafe() -> Property:
    """That the second logit reaches the first somewhere in the ball: never true."""
    low, high = (Fraction(IMAGE) - Fraction(1, 10),) * 2, (Fraction(IMAGE) + Fraction(1, 10),) * 2
    row = Row((Fraction(1), Fraction(-1), Fraction(0)), Fraction(0))
    return Property(2, 3, (Case(Boundary(low, high), (row,)),))


@pytest.mark.parametrize("place", PLACES)
def test_the_honest_graph_is_certified(place: str) -> None:
    assert _verdict(place).verdict == "certified"
    assert decide(Near(place), (2,), _unsafe()).result == "unsat"


@pytest.mark.parametrize("place", ["image", "lower end", "upper end"])
@pytest.mark.usefixtures("wrong_tracer")
def test_a_graph_that_differs_at_one_point_certifies_nothing(place: str) -> None:
    verdict = _verdict(place)
    assert (verdict.verdict, verdict.reason) == ("unknown", "equality")
    assert decide(Near(place), (2,), _unsafe()).result == "unknown"


@pytest.mark.usefixtures("wrong_tracer")
def test_random_corners_find_what_both_ends_do_not() -> None:
    """One corner of four, two drawn by each seed: seven seeds of sixteen find it."""
    found = [_verdict("corner", seed) for seed in range(8)]
    assert {verdict.reason for verdict in found if verdict.verdict == "unknown"} == {"equality"}


@pytest.mark.usefixtures("wrong_tracer")
def test_nothing_but_the_last_look_stops_such_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above would hold for another reason."""
    monkeypatch.setattr(LastLook, "equal", lambda _look, lower, *_, **__: torch.ones(len(lower), dtype=torch.bool))
    assert all(_verdict(place).verdict == "certified" for place in PLACES)
    assert all(decide(Near(place), (2,), _unsafe()).result == "unsat" for place in PLACES)


@pytest.mark.usefixtures("wrong_tracer")
def test_one_image_that_differs_does_not_spoil_its_batch() -> None:
    images = torch.tensor([[IMAGE, IMAGE], [0.2, 0.7], [IMAGE, IMAGE]])
    verdicts = certify(Near("image"), images, [0, 0, 0], 0.05, clip=True).verdicts
    assert [verdict.verdict for verdict in verdicts] == ["unknown", "certified", "unknown"]


def test_an_executor_that_sees_another_class_is_no_certificate() -> None:
    look = LastLook(network_module.Network(Near("image"), (2,)), dtype=torch.float32, device=torch.device("cpu"))
    images = torch.full((2, 2), IMAGE)
    assert look.stands(images, torch.tensor([0, 1]), eps=EPS, clip=True, seed=0).tolist() == [True, False]
