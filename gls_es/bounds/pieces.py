"""Intervals see the pieces of a curve that they meet, and no others: most need no search for their lines.

The tangent in the middle of a convex or a concave piece and the chord of its ends are the best lines there. Only an
interval across several pieces needs the search of :mod:`gls_es.bounds.tangents`, and these are few in most layers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from gls_es.network.activations.curve import Bow, Curve

_FEW = 2048
"""Numbers of which sorting costs more than it saves."""
_Piece = tuple[float, float, Bow | None]
"""Where a piece begins, where it ends, and how it is bent; None: it is straight."""


def by_pieces(curve: Curve, given: tuple[Tensor, ...], found: Callable[..., tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What is found for intervals with a curve of the pieces alone that they meet.

    On other devices than the CPU, where sorting waits for the device, all intervals get the whole curve.

    Args:
        curve: the function.
        given: where intervals begin and end, and what else is known of each, of one shape; differentiable.
        found: of a curve and the given tensors, elementwise in these, which may come flat.

    Returns:
        Its tensors in the intervals' shape.
    """
    lower, pieces = given[0], _pieces(curve)
    if not curve.bows or len(pieces) < 2 or lower.numel() < _FEW or lower.device.type != "cpu":
        return found(curve, *given)
    flat = [values.flatten() for values in given]
    groups = _groups(curve, pieces, flat[0].detach(), flat[1].detach())
    order = torch.cat([where for _, where in groups])
    parts = [found(piece, *(values[where] for values in flat)) for piece, where in groups]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return tuple(torch.cat(values)[back].reshape(lower.shape) for values in zip(*parts, strict=True))


def _pieces(curve: Curve) -> list[_Piece]:
    """The curve's pieces in ascending order."""
    straight: list[_Piece] = [(start, stop, None) for start, stop in curve.straight]
    return sorted([*straight, *((bow.start, bow.stop, bow) for bow in curve.bows)], key=lambda piece: piece[0])


def _groups(curve: Curve, pieces: list[_Piece], lower: Tensor, upper: Tensor) -> list[tuple[Curve, Tensor]]:
    """Curves of neighbouring pieces, and the numbers of the intervals that meet just these."""
    inner = lower.new_tensor([stop for _, stop, _ in pieces[:-1]])
    first, last = torch.bucketize(lower, inner, right=True), torch.bucketize(upper, inner)
    last = torch.maximum(first, last)  # a point on the edge of two pieces
    group = first * len(pieces) + last
    found = []
    for begin, end in itertools.combinations_with_replacement(range(len(pieces)), 2):
        where = (group == begin * len(pieces) + end).nonzero().flatten()
        if len(where):
            found.append((_cut(curve, pieces[begin : end + 1]), where))
    return found


def _cut(curve: Curve, pieces: list[_Piece]) -> Curve:
    """The curve of some neighbouring pieces, the outer ones of which go on for ever."""
    first, last = pieces[0][0], pieces[-1][1]
    bows = tuple(
        dataclasses.replace(
            bow, start=-math.inf if bow.start == first else bow.start, stop=math.inf if bow.stop == last else bow.stop
        )
        for *_, bow in pieces
        if bow is not None
    )
    return dataclasses.replace(curve, bows=bows, straight=(), kinks=tuple(k for k in curve.kinks if first < k < last))
