"""A property of a network that is known by bounds over boxes and by execution only, decided by halving the boxes.

Parts of a box are ruled out where a row cannot hold between the bounds of the outputs, in exact numbers; centres and
corners of parts, and random points, are executed. This is interval branch and bound (Moore, Kearfott and Cloud 2009,
chapter 11), for networks of few inputs that no relaxation covers.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gls_es.basics.checks import seed_number
from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.certification.decision import Decision
from gls_es.certification.violation import Replay, Witness
from gls_es.errors import DataError

Array = NDArray[np.float64]
Enclosure = Callable[[Array, Array], tuple[Array, Array]]
"""Bounds (m,) of the outputs for all inputs between two arrays (n,); infinite where there are none."""
MOST_PARTS = 20_000
_SAMPLES = 128


def decide_enclosed(
    enclosure: Enclosure, replay: Replay, prop: Property, *, timeout: float | None = None, seed: int = 0
) -> Decision:
    """Decide whether an input of a case's box fulfils all of the case's rows with its outputs.

    Args:
        enclosure: sound bounds of what is executed.
        replay: the executor, from (B, n) to (B, m), float32.
        prop: the property.
        timeout: seconds after which nothing new is begun; None for none.
        seed: of random points, below 2**63.

    Raises:
        DataError: the property speaks of another number of outputs than there are.
    """
    begun = time.monotonic()
    deadline = begun + (math.inf if timeout is None else timeout)
    generator = torch.Generator().manual_seed(seed_number(seed))
    open_cases = False
    for case in prop.cases:
        done, witness = _searched(enclosure, replay, case, deadline, generator)
        if witness is not None:
            return Decision("sat", "intervals", *witness, time.monotonic() - begun)
        open_cases |= not done
    spent = time.monotonic() - begun
    if open_cases or prop.narrowed:
        return Decision("timeout" if time.monotonic() > deadline else "unknown", None, None, None, spent)
    return Decision("unsat", "intervals", None, None, spent)


def _searched(
    enclosure: Enclosure, replay: Replay, case: Case, deadline: float, generator: torch.Generator
) -> tuple[bool, Witness | None]:
    """Whether the case is ruled out everywhere, and a witness if one was met."""
    first, last = case.box.points()
    unit = torch.rand(_SAMPLES, len(first), generator=generator)
    witness = _executed(replay, case, first + unit * (last - first))
    low, high = (end.numpy() for end in case.box.outward())
    parts, done = [(low, high)], True
    for _ in range(MOST_PARTS):
        if witness is not None or not parts:
            return witness is None and done, witness
        if time.monotonic() > deadline:
            break
        low, high = parts.pop()
        bounds = enclosure(low, high)
        if len(bounds[0]) != len(case.rows[0].coefficients):
            raise DataError(
                f"the specification speaks of {len(case.rows[0].coefficients)} outputs, not {len(bounds[0])}"
            )
        if any(_ruled_out(row, bounds, (low, high)) for row in case.rows):
            continue
        witness = _executed(replay, case, _points(low, high))
        axis = int((high - low).argmax())
        middle = low[axis] / 2 + high[axis] / 2
        if not low[axis] < middle < high[axis] or high[axis] - low[axis] < 1e-9 * max(1.0, abs(middle)):
            done = False  # nothing more is learnt from parts as small as this
            continue
        first_half, second_half = high.copy(), low.copy()
        first_half[axis] = second_half[axis] = middle
        parts += [(low, first_half), (second_half, high)]
    return False, witness


def _ruled_out(row: Row, outputs: tuple[Array, Array], inputs: tuple[Array, Array]) -> bool:
    """Whether a row holds nowhere between bounds of outputs and inputs."""
    terms = _least(row.coefficients, *outputs), _least(row.inputs, *inputs)
    if None in terms:
        return False
    least = sum((term for term in terms if term is not None), Fraction(0)) - row.offset
    return least > 0 or (row.strict and least == 0)


def _least(coefficients: Sequence[Fraction], low: Array, high: Array) -> Fraction | None:
    """The least Σ c v for values between bounds; None where there is none."""
    total = Fraction(0)
    for factor, end in ((c, low[i] if c > 0 else high[i]) for i, c in enumerate(coefficients) if c):
        if not math.isfinite(end):
            return None
        total += factor * Fraction(float(end))
    return total


def _points(low: Array, high: Array) -> torch.Tensor:
    """The centre, and the corners if they are few."""
    corners: list[Any] = [low / 2 + high / 2]
    if len(low) <= 3:
        corners += [np.where(choice, low, high) for choice in itertools.product((True, False), repeat=len(low))]
    return torch.from_numpy(np.stack(corners)).float()


def _executed(replay: Replay, case: Case, points: torch.Tensor) -> Witness | None:
    """A point whose outputs fulfil the case, exactly."""
    box: Boundary = case.box
    ends = box.points()
    points = torch.clamp(points, *ends)
    for point, values in zip(points, replay(points), strict=True):
        written = box.written(point)
        outputs = tuple(float(value) for value in values)
        if written is not None and case.violated_by(outputs, written):
            return written, outputs
    return None
