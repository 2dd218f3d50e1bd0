"""Products of many rows as 1x1 convolutions: the same numbers as matrix products, for every way to share a side."""

import pytest
import torch

from gls_es.bounds import product as module
from gls_es.bounds.product import product
from tests.bounds.test_equality import check
from tests.oracles.api import assert_near
from tests.oracles.nets import BY_NAME


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """By convolution however small the product is."""
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "IMAGES", range(1, 65))


@pytest.mark.parametrize("members", [(1, 1), (3, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(1024, 128, 121), (1040, 7, 640), (1021, 64, 96), (2, 3, 4)])
def test_equals_the_product_in_float64(members: tuple[int, int], rows: int, inner: int, columns: int) -> None:
    """1021 is prime, and the last one is small: these stay matrix products."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(members[0], rows, inner, generator=generator)
    b = torch.randn(members[1], inner, columns, generator=generator)
    found = product(a, b)
    assert found.dtype == torch.float32
    assert_near(found, torch.matmul(a.double(), b.double()), 1e-5)
    assert torch.equal(product(a.double(), b.double()), torch.matmul(a.double(), b.double()))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("strided", [False, True])
def test_gradients_equal_those_of_the_product(strided: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b, weight = (torch.randn(2, *s, generator=generator) for s in ((48, 5), (5, 9), (48, 9)))
    a, b = (v.transpose(1, 2).contiguous().transpose(1, 2) if strided else v for v in (a, b))
    pairs = []
    for dtype in (torch.float32, torch.float64):
        sides = [v.detach().to(dtype).requires_grad_() for v in (a, b)]
        pairs.append(torch.autograd.grad((product(*sides) * weight).sum(), sides))
    for found, expected in zip(*pairs, strict=True):
        assert_near(found, expected, 1e-5)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", ["mlp", "conv_mixed", "conv_leftover", "resnet", "pool_global", "large_maps"])
def test_bounds_made_with_it_equal_the_dense_reference(name: str) -> None:
    check(BY_NAME[name], "crown-same", torch.float32, members=3, images=3)
