"""Margins and every pre-activation equal an independently written dense reference, net by net and method by method."""

import pytest
import torch

from gls_es import bounds
from tests.oracles.api import FLOATS, TOLERANCE, WITH_REFERENCE, assert_near, margins, preactivations
from tests.oracles.digits import TRAINED
from tests.oracles.nets import CNN3_SMALL, ZOO, Case
from tests.oracles.problems import problem, stacked

CASES = [*ZOO, *TRAINED]


def test_the_promised_methods_exist() -> None:
    assert {"ibp", "crown-ibp", "crown", "deeppoly"} <= set(bounds.METHODS)


def check(case: Case, method: str, dtype: torch.dtype, members: int = 2, images: int = 2) -> None:
    task = problem(case, members, images)
    expected, layers, tie = stacked(method, task)
    # A slope nearer to its jump than rounding would make the comparison meaningless: choose another seed. (The fixed
    # slopes 0 and 1 jump at l = 0 and u = 0, which nets that rectify twice, or their input, hit exactly on both sides;
    # the many intervals that decide in crown-unstable are far more exact than the tolerance.)
    assert tie > TOLERANCE[dtype] or method in ("crown-zero", "crown-one", "crown-unstable")
    assert_near(margins(task, method, dtype), expected, TOLERANCE[dtype])
    actual = preactivations(task, method, dtype)
    assert len(actual) == len(layers)
    for (lo, hi), (l_expected, u_expected) in zip(actual, layers, strict=True):
        assert lo.shape == hi.shape
        assert lo.shape[:2] == (members, images)
        scale = TOLERANCE[dtype] * max(float(l_expected.abs().max()), float(u_expected.abs().max()), 1e-3)
        assert float((lo.flatten(2).double() - l_expected).abs().max()) <= scale
        assert float((hi.flatten(2).double() - u_expected).abs().max()) <= scale


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", WITH_REFERENCE)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_the_dense_reference(case: Case, method: str, dtype: torch.dtype) -> None:
    check(case, method, dtype)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_cnn3_small_equals_the_dense_reference(method: str) -> None:
    check(CNN3_SMALL, method, torch.float64, members=1, images=1)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_preactivations_have_the_shapes_of_the_layers(case: Case) -> None:
    """(P, B, *shape) with the layer's own shape, in the order of execution."""
    task = problem(case, 2, 2)
    shapes = [n.shape for n in task.nodes(0) if n.kind == "relu"]
    for lo, hi in preactivations(task, "ibp"):
        shape = shapes.pop(0)
        assert lo.shape == hi.shape == (2, 2, *shape)
    assert not shapes
