"""Two lines that enclose a curve on [l, u]: a slope for each side, and then the offset that makes it a bound.

**Slopes.** The line above with the least area between is the one that touches the upper envelope (the least concave
function above the curve) in the middle m of [l, u], since a line's area depends on its value at m alone. It is the
tangent at m where the envelope meets the curve there, and else a chord: of points left and right of m that are ends,
kinks or places where the chord is a tangent, too. (For S-shaped curves these are the tangents and secants of Zhang et
al. 2018, arXiv 1811.00866, and Shi et al. 2025, arXiv 2405.21063.) Chords between a few points find it roughly, and
Newton's method then finds where they touch. Below all is the same with the sign changed.

**Offsets.** Whatever the slope s is, the line above needs the offset o = max f(z) - s z over [l, u]. On a straight or a
convex piece the maximum is at the piece's ends. On a concave one f lies below its tangent at any point t, so that o is
at most f(t) - s t, plus what the tangent exceeds the line by at the piece's ends. That holds for every t; the remainder
vanishes at the t with f'(t) = s, which a search finds closely. So no search has to be trusted.

Gradients are those of the lines themselves: touching points move without a first-order effect, so they are constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from gls_es.bounds.pieces import by_pieces
from gls_es.bounds.relaxation import Lines
from gls_es.network.activations.curve import Bow, Curve, held

_SHARES = (0.1, 0.5)
"""Points of a piece, from its end towards the middle, that chords are first drawn to."""
_ROUNDS, _STEPS = 3, 10
"""How often both ends of a chord are moved in turns, if both can be; steps of a search."""
Points = list[tuple[Tensor, Tensor]]
"""Candidates for the ends of a chord, with the curve's heights there."""


def enclosing_lines(curve: Curve, lower: Tensor, upper: Tensor, base: Tensor | None, place: float | None) -> Lines:
    """The lines for inputs in [lower, upper], (G, B, *shape) each.

    Args:
        curve: what is enclosed.
        lower: (G, B, *shape).
        upper: the same shape.
        base: the constant part of the input, broadcastable to (G, B, *shape); None is zero.
        place: where the lower line touches the lower envelope, 0 at the lower end, 1/2 for the least area, 1 at the
            upper end; None for two parallel lines with the slope of the chord.
    """

    def found(piece: Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, ...]:
        if place is None:
            chord = _chord(piece, lower, upper)
            lines = lines_of_slopes(piece, lower, upper, None, (chord, chord))
        else:
            above, top = _touched(piece, lower, upper, 0.5, 1.0)
            below, bottom = _touched(piece, lower, upper, place, -1.0)
            lines = lines_of_slopes(piece, lower, upper, None, (below, above), (bottom, top))
        return lines.parts

    return Lines(*by_pieces(curve, (lower, upper), found)).moved(base)


def lines_of_slopes(
    curve: Curve,
    lower: Tensor,
    upper: Tensor,
    base: Tensor | None,
    slopes: tuple[Tensor, Tensor],
    touched: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Lines:
    """The tightest lines with the given slopes, that of the line below first; arguments as above.

    Args:
        curve: as above.
        lower: as above.
        upper: as above.
        base: as above.
        slopes: (G, B, *shape) each.
        touched: where the lines touch the curve's only piece that is bent their way, if that is known.
    """
    below, above = slopes
    bottom = offset(curve, lower, upper, below, -1.0, touched[0])
    top = offset(curve, lower, upper, above, 1.0, touched[1])
    mean, half = (above + below) * 0.5, (above - below) * 0.5
    return Lines(mean, half, (top + bottom) * 0.5, (top - bottom) * 0.5).moved(base)


def touching(curve: Curve, lower: Tensor, upper: Tensor, place: float, sign: float) -> Tensor:
    """The slope of the line that touches an envelope at lower + place · (upper - lower).

    Args:
        curve: the curve.
        lower: where it begins.
        upper: where it ends.
        place: in [0, 1]; at the ends it is moved inside a little, where there is one such line only.
        sign: 1 for the upper envelope, -1 for the lower one.
    """
    return _touched(curve, lower, upper, place, sign)[0]


def _touched(curve: Curve, lower: Tensor, upper: Tensor, place: float, sign: float) -> tuple[Tensor, Tensor | None]:
    """That slope, and where the line touches the only piece that is bent its way; None if there are several."""
    middle = torch.lerp(lower, upper, min(max(place, 1 / 64), 63 / 64))
    bows = _bent(curve, sign)
    with torch.no_grad():
        left, right, apart = _contacts(curve, lower, middle, upper, sign)
        point = None
        if len(bows) == 1:
            (bow,) = bows
            inside = (left >= bow.start) & (left <= bow.stop)
            point = torch.where(apart, torch.where(inside, left, right), middle)
    left, right = torch.where(left <= lower, lower, left), torch.where(right >= upper, upper, right)
    gap = torch.where(apart, right - left, 1.0)
    chord = (curve.value(right) - curve.value(left)) / gap
    return torch.where(apart, chord, curve.slope(middle)), point


def _bent(curve: Curve, sign: float) -> list[Bow]:
    """The pieces that a line above (sign = 1) or below (sign = -1) may touch between their ends."""
    return [bow for bow in curve.bows if bow.convex != (sign > 0)]


def _chord(curve: Curve, lower: Tensor, upper: Tensor) -> Tensor:
    wide = upper - lower > _narrow(lower, upper)
    chord = (curve.value(upper) - curve.value(lower)) / torch.where(wide, upper - lower, 1.0)
    return torch.where(wide, chord, curve.slope(torch.lerp(lower, upper, 0.5)))


def _narrow(lower: Tensor, upper: Tensor) -> Tensor:
    """Widths below which a chord is mostly rounding."""
    return math.sqrt(torch.finfo(lower.dtype).eps) * (1 + torch.maximum(lower.abs(), upper.abs()).detach())


def _contacts(curve: Curve, lower: Tensor, middle: Tensor, upper: Tensor, sign: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where the line that touches an envelope at ``middle`` touches it on both sides, and whether these are two.

    Both ends of a chord cannot touch one piece, so none is looked for on pieces without an end towards the middle.
    """

    def height(z: Tensor) -> Tensor:
        found: Tensor = curve.value(z) * sign
        return found

    def at_middle(left: Tensor, right: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return low + (high - low) * ((middle - left) / _positive(right - left))

    bows = _bent(curve, sign)
    lefts, rights = [b for b in bows if b.stop < math.inf], [b for b in bows if b.start > -math.inf]
    at_left = [(z, height(z)) for z in _candidates(curve, lower, (lower, middle), lefts, outwards=False)]
    at_right = [(z, height(z)) for z in _candidates(curve, upper, (middle, upper), rights, outwards=True)]
    own = height(middle)
    rounding = 8 * torch.finfo(own.dtype).eps * (own.abs() + curve.steepest * (upper - lower))
    left, right, best = middle, middle, own + rounding
    for first, low in at_left:
        for second, high in at_right:
            value = at_middle(first, second, low, high)
            better = value > best
            best = torch.where(better, value, best)
            left, right = torch.where(better, first, left), torch.where(better, second, right)
    if not bows:
        return left, right, right - left > _narrow(lower, upper)
    left, right = _pivoted(sign * curve.slope(middle), (middle, own), (left, right), (at_left, at_right))
    sides = [(side, pieces) for side, pieces in (("right", rights), ("left", lefts)) if pieces]
    for side, pieces in sides * (_ROUNDS if len(sides) > 1 else 1):
        for bow in pieces:
            anchor, pair, way = (left, (middle, upper), sign) if side == "right" else (right, (lower, middle), -sign)
            point = _tangency(curve, bow, way, anchor, pair)
            first, second = (left, point) if side == "right" else (point, right)
            value = at_middle(first, second, height(first), height(second))
            better = value > best
            best = torch.where(better, value, best)
            left, right = torch.where(better, first, left), torch.where(better, second, right)
    return left, right, (best > own + rounding) & (right - left > _narrow(lower, upper))


def _tangency(curve: Curve, bow: Bow, way: float, anchor: Tensor, pair: tuple[Tensor, Tensor]) -> Tensor:
    """Where on a piece, within two ends, the tangent goes through the curve's point at ``anchor``.

    ``way`` is the sign of what the tangent misses the point by, towards the left end.
    """
    height = curve.value(anchor)

    def residual(z: Tensor) -> tuple[Tensor, Tensor]:
        missed = bow.slope(z) * (z - anchor) - (curve.value(z) - height)
        return way * missed, way * bow.bend(z) * (z - anchor)

    return _root(residual, held(bow.start, *pair), held(bow.stop, *pair))


def _root(residual: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor, stop: Tensor) -> Tensor:
    """About where a falling function is zero between two points: Newton's method, or halving where it leaves them.

    Where it is zero nowhere, the end that is nearest to that.
    """
    first, last = start, stop
    below, above = residual(first)[0] <= 0, residual(last)[0] >= 0
    point = torch.lerp(start, stop, 0.5)
    for _ in range(_STEPS):
        value, rate = residual(point)
        positive = value > 0
        start, stop = torch.where(positive, point, start), torch.where(positive, stop, point)
        moved = point - value / rate
        point = torch.where((moved >= start) & (moved <= stop), moved, torch.lerp(start, stop, 0.5))
    return torch.where(below, first, torch.where(above, last, point))


def _pivoted(
    tangent: Tensor,
    middle: tuple[Tensor, Tensor],
    ends: tuple[Tensor, Tensor],
    candidates: tuple[Points, Points],
) -> tuple[Tensor, Tensor]:
    """Ends of a chord where none was found, and yet the tangent in the middle crosses the curve on one side.

    The chord then begins in the middle, from where it is moved, and goes to the candidate that the tangent misses most.
    """
    z, own = middle
    left, right = ends
    alone = right == left
    steepest, flattest = tangent, tangent
    for point, height in candidates[1]:
        slope = torch.where(point > z, (height - own) / _positive(point - z), tangent)
        better = alone & (slope > steepest)
        steepest, right = torch.where(better, slope, steepest), torch.where(better, point, right)
    for point, height in candidates[0]:
        slope = torch.where(point < z, (own - height) / _positive(z - point), tangent)
        better = alone & (slope < flattest) & (right == z)
        flattest, left = torch.where(better, slope, flattest), torch.where(better, point, left)
    return left, right


def _candidates(
    curve: Curve, end: Tensor, pair: tuple[Tensor, Tensor], bows: list[Bow], *, outwards: bool
) -> Iterator[Tensor]:
    """Points from the middle of an interval to one of its ends: the end, kinks, and some of every piece."""
    yield end
    for kink in curve.kinks:
        yield held(kink, *pair)
    for bow in bows:
        start, stop = held(bow.start, *pair), held(bow.stop, *pair)
        for share in _SHARES:
            yield torch.lerp(start, stop, share) if outwards else torch.lerp(stop, start, share)


def _positive(width: Tensor) -> Tensor:
    return width.clamp_min(torch.finfo(width.dtype).tiny)


def offset(
    curve: Curve, lower: Tensor, upper: Tensor, slope: Tensor, sign: float, touched: Tensor | None = None
) -> Tensor:
    """The offset that makes a line of some slope a bound, as near to the curve as it can be.

    Args:
        curve: the curve.
        lower: where it begins.
        upper: where it ends.
        slope: any numbers.
        sign: 1 for a line above the curve, -1 for one below it.
        touched: as in :func:`lines_of_slopes`.
    """
    slope = sign * slope

    def above(z: Tensor) -> Tensor:
        return sign * curve.value(z) - slope * z

    found = torch.maximum(above(lower), above(upper))
    for kink in curve.kinks:
        found = torch.maximum(found, above(held(kink, lower, upper)))
    for bow in _bent(curve, sign):  # such a line is farthest below all other pieces at one of their ends
        start, stop = held(bow.start, lower, upper), held(bow.stop, lower, upper)
        with torch.no_grad():
            if touched is None:
                point = _root(partial(_steeper, bow=bow, slope=slope, sign=sign), start, stop)
            else:
                point = torch.maximum(torch.minimum(touched, stop), start)
            tangent = sign * bow.slope(point) - slope
            remainder = torch.maximum(tangent * (stop - point), tangent * (start - point))
        point = torch.where(point <= start, start, torch.where(point >= stop, stop, point))
        found = torch.maximum(found, above(point) + remainder)
    return sign * found


def _steeper(z: Tensor, bow: Bow, slope: Tensor, sign: float) -> tuple[Tensor, Tensor]:
    """By how much a piece rises faster than a line, and how that changes."""
    return sign * bow.slope(z) - slope, sign * bow.bend(z)
