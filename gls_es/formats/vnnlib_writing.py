"""VNN-LIB specifications of robustness on L∞ balls, and the result files of VNN-COMP.

The bounds of the inputs are decimals rounded outward, so that the box in the file contains the exact real ball. What is
shown about the file is thereby shown about the ball; the other way round, the last decimal is more than what a
certificate is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Protocol

from torch import Tensor

from gls_es.basics.rounding import decimals
from gls_es.formats.files import write_text
from gls_es.formats.vnnlib2 import Declarations

DECIMALS = 12
"""Decimals of a bound; one in the last place is far below what float32 tells apart near 1."""


class Answer(Protocol):
    """What is known of a property, as a plain record; ``gls_es.certification.Decision`` is one."""

    @property
    def result(self) -> str:
        """One of "sat", "unsat", "unknown" and "timeout"."""

    @property
    def inputs(self) -> tuple[Fraction, ...] | None:
        """For "sat", exact numbers that violate the property."""

    @property
    def outputs(self) -> tuple[float, ...] | None:
        """For "sat", what the network makes of them."""


def robustness_vnnlib(
    image: Tensor, label: int, eps: float, num_classes: int, *, clip: bool = True, title: str = "", version: int = 1
) -> str:
    """The specification that is violated by a point of the ball whose class is not ``label``; a tie violates it.

    Args:
        image: the centre, (*input_shape), float32, in row-major order of its pixels.
        label: the class to keep, 0 .. num_classes - 1.
        eps: radius in pixel units; one step of float64 more is covered, so that ``8 / 255`` stands for the fraction.
        num_classes: how many outputs there are.
        clip: intersect the ball with [0, 1].
        title: a line of comment.
        version: of the language, 1 or 2; in 2 the input has the image's shape behind a batch axis of 1.
    """
    radius = Fraction(eps) if eps == 0 else Fraction(math.nextafter(eps, math.inf))
    pixels = [Fraction(value) for value in image.flatten().tolist()]
    lines = [f"; {' '.join(title.split())}"] if title else []
    if version == 1:
        x, y = [f"X_{index}" for index in range(len(pixels))], [f"Y_{index}" for index in range(num_classes)]
        lines += [f"(declare-const {name} Real)" for name in (*x, *y)]
    else:
        x, y = _elements("X", image.shape), _elements("Y", (num_classes,))
        lines += ["(vnnlib-version <2.0>)", "(declare-network N"]
        lines += [f"    (declare-input X float32 [1,{','.join(map(str, image.shape))}])"]
        lines += [f"    (declare-output Y float32 [1,{num_classes}])", ")"]
    for name, pixel in zip(x, pixels, strict=True):
        low, high = pixel - radius, pixel + radius
        if clip:
            low, high = max(low, Fraction(0)), min(high, Fraction(1))
        lines.append(f"(assert (>= {name} {decimal(low, up=False)}))")
        lines.append(f"(assert (<= {name} {decimal(high, up=True)}))")
    lines.append("(assert (or")
    lines += [f"    (and (>= {y[other]} {y[label]}))" for other in range(num_classes) if other != label]
    return "\n".join([*lines, "))", ""])


def _elements(name: str, shape: Sequence[int]) -> list[str]:
    """The elements of a tensor with a batch axis of 1, in row-major order."""
    return [f"{name}[{','.join(map(str, (0, *index)))}]" for index in product(*map(range, shape))]


def decimal(number: Fraction, *, up: bool, places: int = DECIMALS) -> str:
    """A number rounded to decimals, upwards or downwards.

    Args:
        number: any.
        up: the direction.
        places: decimals, >= 1.
    """
    scaled = number * 10**places
    whole = math.ceil(scaled) if up else math.floor(scaled)
    digits = str(abs(whole)).rjust(places + 1, "0")
    fraction = digits[-places:].rstrip("0") or "0"
    return f"{'-' if whole < 0 else ''}{digits[:-places]}.{fraction}"


def exact_decimal(number: Fraction) -> str:
    """A number in decimals without rounding; its denominator must divide a power of ten."""
    places = decimals(number)
    if places is None:
        raise ValueError(f"{number} has no finite decimal expansion")
    return decimal(number, up=False, places=max(places, 1))


def result_text(decision: Answer, declared: Declarations | None = None) -> str:
    """What VNN-COMP expects in a result file: the result, and for "sat" the counterexample's inputs and outputs.

    Args:
        decision: the result.
        declared: the inputs and outputs that a query of version 2 declares, whose assignment has another form; None
            for one of version 1.
    """
    if decision.result != "sat":
        return f"{decision.result}\n"
    assert decision.inputs is not None
    assert decision.outputs is not None
    if declared is not None:
        return "\n".join(["sat", *_assignment(declared, decision.inputs, decision.outputs), ""])
    pairs = [f"(X_{index} {_number(value)})" for index, value in enumerate(decision.inputs)]
    pairs += [f"(Y_{index} {value!r})" for index, value in enumerate(decision.outputs)]
    return "sat\n(" + "\n".join(pairs) + ")\n"


def _assignment(declared: Declarations, inputs: Sequence[Fraction], outputs: Sequence[float]) -> Iterator[str]:
    """Every declared tensor: name, type and shape, then its values in row-major order."""
    numbers = iter([*inputs, *map(Fraction, outputs)])
    for tensor in (*declared.inputs, *declared.outputs):
        yield str(tensor)
        for _ in range(tensor.size):
            yield str(int(next(numbers))) if tensor.kind == "int64" else _number(next(numbers))


def write_result(decision: Answer, path: str | Path, declared: Declarations | None = None) -> None:
    """Write the result file, see :func:`result_text`.

    Raises:
        FormatError: it cannot be written.
    """
    write_text(path, result_text(decision, declared))


def write_instances(path: str | Path, rows: Sequence[tuple[str, str, float]]) -> None:
    """Write VNN-COMP's list of instances: network, specification, seconds, without a header.

    Args:
        path: the file, instances.csv by custom; names in it are relative to its folder.
        rows: one per instance.

    Raises:
        FormatError: it cannot be written.
    """
    write_text(path, "".join(f"{net},{spec},{seconds:g}\n" for net, spec, seconds in rows))


def _number(value: Fraction) -> str:
    """Exactly where decimals can say it; a bound given by a formula may have no finite expansion."""
    try:
        return exact_decimal(value)
    except ValueError:
        return repr(float(value))
