"""Sums of ONNX operators that overflow before the operator's own factor shrinks them: no certificate is about them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gls_es.certification import AttackOptions, certify
from tests.formats.hand_made import model, node, saved

ort = pytest.importorskip("onnxruntime")


def _pooled(*pool: Any) -> Any:
    """10 - mean(3e37 x) 1e-38 over 16 pixels, and 0."""
    nodes = [node("Mul", "x large", "a"), *pool, node("Flatten", "p", "f"), node("Gemm", "f w b", "y", transB=1)]
    weight = np.array([[-1e-38], [0]], np.float32)
    constants = {"large": np.array(3e37, np.float32), "w": weight, "b": np.array([10, 0], np.float32)}
    return model(nodes, constants, [1, 1, 4, 4])


def _gemm() -> Any:
    """10 - 2^-126 Σ 1.2 2^124 x over 16 pixels, and 0."""
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f w b", "y", transB=1, alpha=2.0**-126)]
    weight = np.array([[-1.2 * 2.0**124] * 16, [0] * 16], np.float32)
    return model(nodes, {"w": weight, "b": np.array([10, 0], np.float32)}, [1, 1, 4, 4])


FILES = {
    "AveragePool": (lambda: _pooled(node("AveragePool", "a", "p", kernel_shape=[4, 4])), 0.65, 0.3),
    "GlobalAveragePool": (lambda: _pooled(node("GlobalAveragePool", "a", "p")), 0.65, 0.3),
    "Gemm": (_gemm, 0.7, 0.25),
}


@pytest.mark.parametrize("name", FILES)
def test_a_sum_that_overflows_before_its_factor_is_not_certified(name: str, tmp_path: Path) -> None:
    make, centre, eps = FILES[name]
    path = saved(make(), tmp_path)
    run = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run
    here, there = (
        run(None, {"x": np.full((1, 1, 4, 4), value, np.float32)})[0][0] for value in (centre, centre + 0.9 * eps)
    )
    assert here[0] > here[1]
    assert not there[0] > there[1]
    image = torch.full((1, 1, 4, 4), centre)
    (verdict,) = certify(path, image, [0], eps, attack=AttackOptions(steps=2, restarts=1)).verdicts
    assert (verdict.verdict, verdict.reason) == ("unknown", "overflow")
