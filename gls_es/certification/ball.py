"""The L∞ ball of a verdict, seen from the inside: which float32 points lie in it, without rounding.

``eps`` is in raw pixel units, before normalisation, and stands for the real number that the Python float is. An attack
may only use points of the exact ball {z : |z - x| <= eps, 0 <= z <= 1}; ``x - eps`` in floating point may lie outside
it (8/255 does so for most pixels), so the comparison here is exact. The other side, a box that *contains* the ball, is
:func:`gls_es.certification.rounding.outward_ball`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def beyond(points: Tensor, images: Tensor, *, eps: float | Tensor) -> Tensor:
    """Where |points - images| > eps holds for real numbers; a NaN counts as beyond.

    The float64 difference d of two float32 numbers carries an error e that two-sum (Knuth) yields exactly, and
    rounding is monotone: |d| < eps implies |d + e| < eps, and only |d| = eps needs the sign of e.

    Args:
        points: any shape, float32.
        images: the centres, of a shape that broadcasts with it, float32.
        eps: the radius, >= 0; or each pixel's, float64, broadcasting to an image.

    Returns:
        Booleans of the broadcast shape.
    """
    p, x = points.double(), images.double()
    difference = p - x
    back = difference - p
    error = (p - (difference - back)) + (-x - back)
    distance = difference.abs()
    outward = torch.where(difference < 0, -error, error)
    return ~((distance < eps) | ((distance == eps) & (outward <= 0)))


def inside(points: Tensor, images: Tensor, *, eps: float | Tensor, clip: bool) -> Tensor:
    """Which rows lie in the exact ball, shape (B,): every coordinate within eps, and in [0, 1] if ``clip``."""
    bad = beyond(points, images, eps=eps)
    if clip:
        bad = bad | ~((points >= 0) & (points <= 1))
    return ~bad.flatten(1).any(dim=1)


def inner_box(images: Tensor, *, eps: float | Tensor, clip: bool) -> tuple[Tensor, Tensor]:
    """The largest box with float32 ends that lies inside the exact ball.

    Args:
        images: centres, (B, *shape), float32, in [0, 1] if ``clip``.
        eps: the radius, >= 0.
        clip: whether the ball is cut off at 0 and 1.

    Returns:
        ``(lower, upper)``, each of the images' shape, float32.
    """
    lower, upper = _end(images, -eps), _end(images, eps)
    return (lower.clamp(min=0.0), upper.clamp(max=1.0)) if clip else (lower, upper)


def _end(images: Tensor, offset: float | Tensor) -> Tensor:
    end = (images.double() + offset).to(images.dtype)
    reach: float | Tensor = offset.abs() if isinstance(offset, Tensor) else abs(offset)
    for _ in range(2):  # rounding leaves the ball by one step of float32 at most
        end = torch.where(beyond(end, images, eps=reach), torch.nextafter(end, images), end)
    return torch.where(beyond(end, images, eps=reach), images, end)
