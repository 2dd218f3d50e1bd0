"""The published files themselves, where GLS_ES_DATA names a folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from gls_es.data import Split, load_cifar10, load_fashion_mnist, load_mnist
from gls_es.data.cifar10 import BINARY, PICKLED, load_layouts

ROOT = Path(os.environ.get("GLS_ES_DATA") or "no-root")


def need(folder: str) -> None:
    if not (ROOT / folder).is_dir():
        pytest.skip(f"GLS_ES_DATA names no folder with {folder}")


def mean(split: Split) -> torch.Tensor:
    return (split.images.sum((0, 2, 3), dtype=torch.float64) / split.images[:, 0].numel()) / split.scale


def test_mnist() -> None:
    need("MNIST/raw")
    data = load_mnist()
    assert (len(data.train), len(data.test), data.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.allclose(mean(data.train), torch.tensor([0.1307], dtype=torch.float64), atol=5e-5)


def test_fashion_mnist() -> None:
    need("FashionMNIST/raw")
    data = load_fashion_mnist()
    assert (len(data.train), len(data.test), data.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert torch.allclose(mean(data.train), torch.tensor([0.2860], dtype=torch.float64), atol=5e-5)


def test_cifar10() -> None:
    need("cifar-10-batches-py")
    data = load_cifar10()
    assert (len(data.train), len(data.test), data.input_shape) == (50_000, 10_000, (3, 32, 32))
    assert data.test.labels.bincount().tolist() == [1000] * 10
    published = torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64)
    assert torch.allclose(mean(data.train), published, atol=6e-5)


def test_both_versions_of_cifar10_are_the_same() -> None:
    need("cifar-10-batches-py")
    need("cifar-10-batches-bin")
    assert load_layouts((BINARY,), ROOT).digest() == load_layouts((PICKLED,), ROOT).digest()
