"""PyTorch's modes inside and after ``ordinary_modes``."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from gls_es.basics.modes import ordinary_modes, usable


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
}


def _state() -> tuple[object, ...]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.zeros(()).dtype, torch.zeros(()).device


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_everything_is_ordinary_inside_and_put_back(mode: Callable[[], AbstractContextManager[object]]) -> None:
    ordinary = _state()
    with mode():
        outside = _state()
        assert outside != ordinary
        with ordinary_modes():
            assert _state() == ordinary
        assert _state() == outside
    assert _state() == ordinary


def test_a_tensor_of_inference_mode_is_copied_where_autograd_needs_it() -> None:
    with torch.inference_mode():
        tensor = torch.ones(2)
        assert usable(tensor) is tensor
    weight = torch.ones(2, requires_grad=True)
    (weight * usable(tensor)).sum().backward()
    assert weight.grad is not None
    plain = torch.ones(2)
    assert usable(plain) is plain
