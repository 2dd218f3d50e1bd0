"""The public calls of gls_es under test, on the problems of the zoo.

Results are kept: many tests look at the same bounds, and calls repeat exactly (``test_properties`` says so).
"""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor

import gls_es
from gls_es import bounds
from tests.oracles import dense
from tests.oracles.problems import Problem

# deeppoly is another name of crown: one test says so, the others need not run twice
METHODS = tuple(m for m in bounds.METHODS if m != "deeppoly")
WITH_REFERENCE = tuple(m for m in dense.METHODS if m in METHODS)
FLOATS = (torch.float64, torch.float32)

# float64: rounding only. float32: a bound is a chain of at most five layers of sums of up to 1,568 products; rounding
# grows like 2^-24 · sqrt(1568) = 2.4e-6 a layer relative to the terms' size, which cancellation makes a few times the
# size of the result. A wrong slope, sign or bias is orders of magnitude above either.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5}


@cache
def network(task: Problem, dtype: torch.dtype) -> gls_es.Network:
    """A Network of the module in the given precision."""
    return gls_es.Network(copy.deepcopy(task.module).to(dtype), task.case.input_shape)


@cache
def margins(task: Problem, method: str, dtype: torch.dtype = torch.float64) -> Tensor:
    net = network(task, dtype)
    with torch.no_grad():
        return bounds.margins(
            net, task.lower.to(dtype), task.upper.to(dtype), task.labels, method=method, params=task.params.to(dtype)
        )


@cache
def preactivations(task: Problem, method: str, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    net = network(task, dtype)
    with torch.no_grad():
        return bounds.preactivations(
            net, task.lower.to(dtype), task.upper.to(dtype), method=method, params=task.params.to(dtype)
        )


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal up to ``tolerance`` times the largest expected magnitude."""
    assert actual.shape == expected.shape
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    error = float((actual.double() - expected.double()).abs().max()) if expected.numel() else 0.0
    assert error <= tolerance * max(scale, 1e-3), f"off by {error:.3g} at scale {scale:.3g}"
