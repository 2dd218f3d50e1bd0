"""Networks of operators without relaxations, enclosed by interval arithmetic: comparisons, casts, products, quotients.

Each operator maps intervals to one that contains what it makes of any numbers in them, in real arithmetic and as
float32 executes it: a rounding moves a result by at most 2^-24 of its size, or 2^-150, and every interval is widened by
twice as much (IEEE 754-2019, sections 4 to 6). What may overflow, divide by zero or be no number has no bounds at all,
and whatever reads it has none, or both truth values. Such bounds are loose; they decide small networks on small boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gls_es.errors import FormatError, UnsupportedNetworkError
from gls_es.formats.extras import installed
from gls_es.formats.onnx_building import Refused
from gls_es.formats.onnx_constants import CONSTANTS
from gls_es.formats.onnx_graph import Array, OnnxGraph, OnnxNode, read_onnx
from gls_es.formats.runtime import OnnxReference, OnnxRuntime, Reader

_LARGEST = float(np.finfo(np.float32).max)
_WHOLE = 2.0**30  # the sum of two such numbers is still an int32
_POINTS = 8


@dataclass(frozen=True)
class Interval:
    """Numbers between two arrays, ends included, in float64; truth values are 0 and 1."""

    low: Array
    high: Array


def _widened(low: Array, high: Array) -> Interval:
    """An interval with room for one rounding; unbounded where something is no number or beyond float32."""
    low = low - np.abs(low) * 2.0**-23 - 2.0**-148
    high = high + np.abs(high) * 2.0**-23 + 2.0**-148
    return _within(Interval(low, high), _LARGEST)


def _within(a: Interval, largest: float) -> Interval:
    """An interval, or none where it may go beyond a number."""
    lost = ~((a.low >= -largest) & (a.high <= largest))
    return Interval(np.where(lost, -np.inf, a.low), np.where(lost, np.inf, a.high))


def _added(_node: OnnxNode, a: Interval, b: Interval) -> Interval:
    return _widened(a.low + b.low, a.high + b.high)


def _subtracted(_node: OnnxNode, a: Interval, b: Interval) -> Interval:
    return _widened(a.low - b.high, a.high - b.low)


def _multiplied(_node: OnnxNode, a: Interval, b: Interval) -> Interval:
    ends = [a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high]
    return _widened(np.minimum.reduce(ends), np.maximum.reduce(ends))  # NaN, of infinity times zero, is kept


def _divided(_node: OnnxNode, a: Interval, b: Interval) -> Interval:
    ends = [a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high]
    zero = (b.low <= 0) & (b.high >= 0)
    low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
    return _widened(np.where(zero, np.nan, low), np.where(zero, np.nan, high))


def _negated(_node: OnnxNode, a: Interval) -> Interval:
    return Interval(-a.high, -a.low)


def _relu(_node: OnnxNode, a: Interval) -> Interval:
    return Interval(np.where(np.isinf(a.high), -np.inf, np.maximum(a.low, 0)), np.maximum(a.high, 0))


def _cast(node: OnnxNode, a: Interval) -> Interval:
    """To float32, to whole numbers (towards zero), to truth values (false is zero)."""
    kind = node.attributes.get("to")
    if kind == 1:
        return _widened(a.low, a.high)
    if kind == 9:
        return Interval(((a.low > 0) | (a.high < 0)) * 1.0, ((a.low != 0) | (a.high != 0)) * 1.0)
    if kind in (6, 7):
        return Interval(np.trunc(a.low), np.trunc(a.high))
    raise Refused("it makes numbers of a type that is not read")


def _equal(_node: OnnxNode, a: Interval, b: Interval) -> Interval:
    certain = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
    return Interval(certain * 1.0, ((a.low <= b.high) & (b.low <= a.high)) * 1.0)


def _greater(_node: OnnxNode, a: Interval, b: Interval) -> Interval:
    return Interval((a.low > b.high) * 1.0, (a.high > b.low) * 1.0)


def _at_least(_node: OnnxNode, a: Interval, b: Interval) -> Interval:
    return Interval((a.low >= b.high) * 1.0, (a.high >= b.low) * 1.0)


def _where(_node: OnnxNode, c: Interval, a: Interval, b: Interval) -> Interval:
    low = np.where(c.low > 0, a.low, np.where(c.high > 0, np.minimum(a.low, b.low), b.low))
    high = np.where(c.low > 0, a.high, np.where(c.high > 0, np.maximum(a.high, b.high), b.high))
    return Interval(low, high)


ENCLOSED: dict[str, Callable[..., Interval]] = {
    "Add": _added,
    "Cast": _cast,
    "Div": _divided,
    "Equal": _equal,
    "Greater": _greater,
    "GreaterOrEqual": _at_least,
    "Less": lambda node, a, b: _greater(node, b, a),
    "LessOrEqual": lambda node, a, b: _at_least(node, b, a),
    "Mul": _multiplied,
    "Neg": _negated,
    "Relu": _relu,
    "Sub": _subtracted,
    "Where": _where,
}
"""Operators that are enclosed, by name."""
_MOVING = ("Concat", "Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class EnclosedModel:
    """A network that is known by intervals and by execution only.

    Attributes:
        graph: what the file says.
        reader: who executes it.
        compared: its name, "onnxruntime" or "onnx.reference".
    """

    graph: OnnxGraph
    reader: Reader
    compared: str

    def enclosure(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Bounds (m,) of all outputs for all inputs between two arrays (n,), float64; infinite where there are none."""
        values, start = {}, 0
        for name, array in self.graph.constants.items():
            values[name] = Interval(array.astype(np.float64), array.astype(np.float64))
        for given in self.graph.inputs:
            part = slice(start, start + int(np.prod(given.one)))
            values[given.name] = Interval(low[part].reshape(given.one), high[part].reshape(given.one))
            start = part.stop
        held = dict(self.graph.constants)
        with np.errstate(all="ignore"):
            for node in self.graph.nodes:
                _enclose(node, values, held)
                if self._whole:
                    values[node.outputs[0]] = _within(values[node.outputs[0]], _WHOLE)
        found = [values[output.name] for output in self.graph.outputs]
        sides = [value.low.reshape(-1) for value in found], [value.high.reshape(-1) for value in found]
        return np.concatenate(sides[0]), np.concatenate(sides[1])

    @cached_property
    def _whole(self) -> bool:
        """Whether there are whole numbers, which wrap where they are too large and divide otherwise."""
        found = any(node.op == "Cast" and node.attributes.get("to") in (6, 7) for node in self.graph.nodes)
        if found and any(node.op == "Div" for node in self.graph.nodes):
            raise Refused("quotients of whole numbers have no bounds here")
        return found


def _enclose(node: OnnxNode, values: dict[str, Interval], held: dict[str, Array]) -> None:
    """What one node makes of intervals, or of constants."""
    names = [name for name in node.inputs if name]
    output = node.outputs[0]
    if all(name in held for name in names) and node.op in CONSTANTS:
        held[output] = CONSTANTS[node.op](node, [held[name] for name in names])
        values[output] = Interval(held[output].astype(np.float64), held[output].astype(np.float64))
    elif node.op in ENCLOSED:
        values[output] = ENCLOSED[node.op](node, *(values[name] for name in names))
    elif node.op in _MOVING and not any(node.outputs[1:]):
        sides = [
            CONSTANTS[node.op](node, [held[name] if name in held else getattr(values[name], side) for name in names])
            for side in ("low", "high")
        ]
        values[output] = Interval(*sides)
    else:
        raise Refused("this operator has no bounds here")


def load_enclosed(path: str | Path) -> EnclosedModel:
    """Read a network of operators that intervals enclose; executed values are held against them on random inputs.

    Raises:
        ConfigError: onnx is not installed.
        FormatError: the file is missing, damaged, or no such model, or an executed value lies outside.
        UnsupportedNetworkError: it holds a node that is not enclosed.
    """
    graph = read_onnx(path)
    if graph.execution != "float32":
        raise UnsupportedNetworkError(f"{path} cannot be bounded: intervals are of networks of float32.")
    name = "onnxruntime" if installed("onnxruntime") else "onnx.reference"
    reader: Reader = (OnnxRuntime if name == "onnxruntime" else OnnxReference)(graph.data, what=str(path))
    model = EnclosedModel(graph, reader, name)
    size = sum(int(np.prod(given.one)) for given in graph.inputs)
    x = 4 * torch.randn(_POINTS, size, generator=torch.Generator().manual_seed(0))
    try:
        for point, outputs in zip(x.double().numpy(), reader.logits(x).double().numpy(), strict=True):
            low, high = model.enclosure(point, point)
            if not ((low <= outputs) & (outputs <= high) | ~np.isfinite(outputs)).all():
                raise FormatError(f"{path}: {name} computes what the bounds of gls-es rule out; please report this.")
    except (Refused, ValueError) as reason:
        raise UnsupportedNetworkError(f"{path} cannot be bounded: {reason}.") from reason
    return model
