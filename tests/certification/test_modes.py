"""Verdicts do not depend on the modes of PyTorch that the caller happens to be in."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction

import pytest
import torch
from certification_nets import QUICK, random_images, relu_net
from torch._subclasses.fake_tensor import FakeTensorMode

import gls_es
from gls_es import bounds
from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.certification import certified_radii, certify, decide, find_counterexamples


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def _default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype": _default_dtype,
    "default device": lambda: torch.device("meta"),
    "deterministic": _deterministic,
}
NET = relu_net(4, (4, 8, 8, 3))
X = random_images(4, 3, 4)
Y = NET(X).argmax(1)
NETWORK = gls_es.Network(NET, (4,))
ROW = Row((Fraction(1), Fraction(-1), Fraction(0)), Fraction(-100))
BOX = Boundary((Fraction(0),) * 4, (Fraction(1),) * 4)
PROPERTY = Property(4, 3, (Case(BOX, (ROW,)),))


def _verdicts(images: torch.Tensor = X, **options: object) -> object:
    report = certify(NET, images, Y, 0.1, attack=QUICK, max_domains=20, **options)
    return [(v.verdict, v.stage, v.margin) for v in report.verdicts]


CALLS: dict[str, Callable[[], object]] = {
    "the default stages": _verdicts,
    "alpha-shared": lambda: _verdicts(stages=("alpha-shared",)),
    "alpha-layers": lambda: _verdicts(stages=("alpha-layers",)),
    "bab": lambda: _verdicts(stages=("bab",)),
    "radii": lambda: certified_radii(NET, X, Y, tolerance=0.25, max_domains=3, attack=QUICK).images,
    "the attack": lambda: find_counterexamples(NETWORK, X, Y, 0.1, options=QUICK).margins.tolist(),
    "decide": lambda: decide(NET, (4,), PROPERTY).result,
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_answer_inside_is_that_outside(
    call: Callable[[], object], mode: Callable[[], AbstractContextManager[object]]
) -> None:
    wanted = call()
    with mode():
        found = call()
    assert found == wanted


LOGITS = {"logits": lambda: NETWORK.logits(X), "bounds": lambda: bounds.margins(NETWORK, X, X, Y)}


@pytest.mark.parametrize("call", [*CALLS.values(), *LOGITS.values()], ids=[*CALLS, *LOGITS])
def test_where_tensors_hold_no_numbers_nothing_is_answered(call: Callable[[], object]) -> None:
    with FakeTensorMode(), pytest.raises(gls_es.errors.ConfigError, match="inside FakeTensorMode"):
        call()


def test_images_and_networks_made_in_inference_mode() -> None:
    with torch.inference_mode():
        images, network = X.clone(), gls_es.Network(relu_net(4, (4, 8, 8, 3)), (4,))
    assert _verdicts(images, stages=("bab",)) == _verdicts(stages=("bab",))
    params = network.parameter_vector()[None].requires_grad_()
    margins = bounds.margins(network, images, images + 0.01, Y, params=params)
    margins.sum().backward()
    assert params.grad is not None
    assert bool(params.grad.isfinite().all())
