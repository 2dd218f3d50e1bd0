"""Resize and Upsample copy what onnxruntime copies, value by value, or are refused; so does nothing else in a file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gls_es.errors import FormatError, UnsupportedNetworkError
from gls_es.formats import load_onnx
from gls_es.formats.runtime import OnnxRuntime, check_same_logits
from tests.formats.hand_made import model, node, saved

pytest.importorskip("onnxruntime")

SCALES = (0.4, 0.5, 0.6, 1.0, 1.1, 1.25, 1.6, 1.7, 2.0, 2.5, 3.0)
WAYS = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def _resized(n: int, scale: float, opset: int, **options: str) -> Any:
    scales = {"s": np.array([1, 1, scale], dtype=np.float32), "none": np.zeros(0, dtype=np.float32)}
    if opset > 10:
        made, needed = node("Resize", "x none s", "r", mode="nearest", **options), ("s", "none")
    else:
        made, needed = node("Upsample" if opset == 9 else "Resize", "x s", "r", mode="nearest"), ("s",)
    nodes = [made, node("Concat", "r x", "y", axis=2)]  # so that there are two logits at least
    return model(nodes, {key: scales[key] for key in needed}, [1, 1, n], opset=opset)


def _same_copies(made: Any, n: int, path: Path) -> bool:
    """Whether onnxruntime copies the same values as gls-es; False where gls-es refuses."""
    try:
        loaded = load_onnx(saved(made, path))
    except UnsupportedNetworkError:
        return False
    x = torch.arange(1.0, n + 1).reshape(1, 1, n)
    theirs = OnnxRuntime(loaded.data, what="net").logits(x)
    assert torch.equal(loaded.module(x).flatten(1), theirs)
    return True


@pytest.mark.parametrize("n", [1, 3, 5, 9])
def test_every_way_of_choosing(n: int, tmp_path: Path) -> None:
    ways = itertools.product(SCALES, WAYS, ROUNDINGS)
    settings = ((scale, {"coordinate_transformation_mode": w, "nearest_mode": r}) for scale, w, r in ways)
    taken = [_same_copies(_resized(n, scale, 13, **options), n, tmp_path) for scale, options in settings]
    assert sum(taken) > len(taken) / 2


@pytest.mark.parametrize("opset", [9, 10, 11, 18])
def test_what_a_file_says_nothing_of_follows_its_operator_set(opset: int, tmp_path: Path) -> None:
    scales = [s for s in SCALES if opset > 9 or s >= 1]  # Upsample does not shrink
    taken = [_same_copies(_resized(n, scale, opset), n, tmp_path) for n in (2, 5, 8) for scale in scales]
    assert sum(taken) > len(taken) / 2


def test_small_outputs_are_compared_beside_large_ones() -> None:
    """They were compared by the largest output alone, so that one of another unit hid what was wrong."""
    weight = {"w": np.array([[1.0, 1e7], [2.0, -3e7]], dtype=np.float32)}
    data = model([node("MatMul", "x w", "y")], weight, [1, 2]).SerializeToString()
    right = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        right.weight.copy_(torch.from_numpy(weight["w"]).T)
        check_same_logits(data, right, (2,), what="net")
        right.weight[0, 0] += 0.01
    with pytest.raises(FormatError, match=r"apart in output 0; please report"):
        check_same_logits(data, right, (2,), what="net")


def test_outputs_in_which_large_numbers_cancel_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(64, 20, generator=generator) * 1e5
    weights = {"a": wide.numpy(), "b": torch.randn(20, 40, generator=generator).numpy(), "c": np.ones((40, 2), "f")}
    weights["c"][1::2] = -1
    data = model([node("MatMul", "x a", "t"), node("MatMul", "t b", "u"), node("MatMul", "u c", "y")], weights, [1, 64])
    layers = [nn.Linear(w.shape[0], w.shape[1], bias=False) for w in weights.values()]
    with torch.no_grad():
        for layer, held in zip(layers, weights.values(), strict=True):
            layer.weight.copy_(torch.from_numpy(held).T)
    check_same_logits(data.SerializeToString(), nn.Sequential(*layers), (64,), what="net")


def test_tiny_outputs_are_compared_by_their_own_size() -> None:
    data = model([node("MatMul", "x w", "y")], {"w": np.full((1, 2), 1e-8, np.float32)}, [1, 1]).SerializeToString()
    wrong = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        wrong.weight.copy_(torch.tensor([[1e-8], [1.1e-8]]))
    with pytest.raises(FormatError, match=r"apart in output 1; please report"):
        check_same_logits(data, wrong, (1,), what="net")
