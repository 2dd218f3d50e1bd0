"""Intervals of operators without relaxations: what onnxruntime computes lies in them, and decisions hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.certification import decide_enclosed
from gls_es.errors import UnsupportedNetworkError
from gls_es.formats import load_enclosed
from tests.formats.hand_made import model, node, numbers, saved

pytest.importorskip("onnxruntime")
FLOAT, INT64, BOOL = 1, 7, 9
CONSTANTS = {"c": numbers(1, 3), "half": np.array(0.5, dtype=np.float32), "zero": np.zeros(3, dtype=np.float32)}
CONSTANTS["big"] = np.full(3, 1e38, dtype=np.float32)
NETWORKS: dict[str, list[Any]] = {
    "product": [node("Mul", "x x", "a"), node("Sub", "a c", "y")],
    "quotient": [node("Mul", "x x", "a"), node("Add", "a half", "b"), node("Div", "x b", "y")],
    "step": [node("Greater", "x c", "a"), node("Cast", "a", "y", to=FLOAT)],
    "steps": [node("LessOrEqual", "x half", "a"), node("Cast", "x", "t", to=BOOL), node("Equal", "a t", "b"),
              node("Cast", "b", "y", to=FLOAT)],
    "truncated": [node("Cast", "x", "a", to=INT64), node("Cast", "a", "b", to=FLOAT), node("Sub", "x b", "y")],
    "choice": [node("GreaterOrEqual", "x half", "a"), node("Neg", "x", "n"), node("Where", "a n c", "y")],
    "overflow": [node("Mul", "x big", "a"), node("Mul", "a big", "b"), node("Sub", "b b", "d"), node("Relu", "d", "e"),
                 node("GreaterOrEqual", "e zero", "f"), node("Cast", "f", "y", to=FLOAT)],
}  # fmt: skip


def _network(name: str, folder: Path) -> Any:
    nodes = NETWORKS[name]
    needed = {key: CONSTANTS[key] for made in nodes for key in made.input if key in CONSTANTS}
    return load_enclosed(saved(model(nodes, needed, [3], opset=18), folder))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_executed_lies_within(name: str, tmp_path: Path) -> None:
    """Boxes of all sizes, some of them points; their corners and points inside."""
    network = _network(name, tmp_path)
    rng = np.random.default_rng(0)
    bounded = 0
    for trial in range(150):
        width = 10.0 ** -rng.integers(0, 8) * (trial % 5 > 0)
        low = rng.normal(size=3).astype(np.float32)
        high = (low + width * rng.random(3)).astype(np.float32)
        below, above = network.enclosure(low.astype(np.float64), high.astype(np.float64))
        points = np.clip(low + rng.random((20, 3)) * (high - low), low, high).astype(np.float32)
        points[:8] = np.where(np.array(list(np.ndindex(2, 2, 2)), dtype=bool), high, low)
        found = network.reader.logits(torch.from_numpy(points)).numpy().astype(np.float64)
        good = np.isfinite(found)
        assert ((below <= found) & (found <= above) | ~good).all()
        bounded += int(np.isfinite(below).all() and (above - below).max() < 3)
    assert bounded >= (0 if name == "overflow" else 40)


def test_values_that_are_no_numbers_have_both_truth_values(tmp_path: Path) -> None:
    """Infinity minus infinity is not at least zero, whatever ReLU makes of an interval."""
    network = _network("overflow", tmp_path)
    below, above = network.enclosure(np.full(3, 1.0), np.full(3, 2.0))
    assert below.tolist() == pytest.approx([0.0] * 3, abs=1e-30)
    assert above.tolist() == pytest.approx([1.0] * 3)


def _property(coefficients: list[int], offset: float, *, strict: bool = False) -> Property:
    from fractions import Fraction as F

    box = Boundary((F(0),) * 3, (F(1),) * 3, single=True)
    return Property(3, 3, (Case(box, (Row(tuple(map(F, coefficients)), F(offset), strict=strict),)),))


def test_decisions(tmp_path: Path) -> None:
    """Of x² - c over the unit cube, per output from -c to 1 - c."""
    network = _network("product", tmp_path)
    c = float(CONSTANTS["c"][0])
    for offset, wanted in ((-c - 0.001, "unsat"), (-c + 0.001, "sat")):
        decision = decide_enclosed(network.enclosure, network.reader.logits, _property([1, 0, 0], offset), timeout=60.0)
        assert decision.result == wanted
    ever = _property([1, 0, 0], -c, strict=True)  # x² < 0: no bound with room for rounding says so
    assert decide_enclosed(network.enclosure, network.reader.logits, ever, timeout=1.0).result in ("unknown", "timeout")


def test_whole_numbers_are_not_divided(tmp_path: Path) -> None:
    nodes = [node("Cast", "x", "a", to=INT64), node("Div", "a two", "b"), node("Cast", "b", "y", to=FLOAT)]
    path = saved(model(nodes, {"two": np.array(2)}, [3], opset=18), tmp_path)
    with pytest.raises(UnsupportedNetworkError, match="quotients of whole numbers"):
        load_enclosed(path)
    with pytest.raises(UnsupportedNetworkError, match="no bounds here"):
        load_enclosed(saved(model([node("Sin", "x", "y")], {}, [3]), tmp_path))
