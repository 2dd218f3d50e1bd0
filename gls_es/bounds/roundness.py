"""The dual norm of L2 balls: how far a linear function can move on one.

On {c + r * u : ||u||_2 <= 1} the function a moves by at most ||a r||_2 (Cauchy-Schwarz; L2 is its own dual), where on
the box |z - c| <= r it moves by |a| r. With a layer's rows for a that gives the layer's interval, which is exact.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gls_es.bounds.box import Box
from gls_es.network.graph import Shape
from gls_es.network.layers import ConvLayer, Dense


def ball_norm(squares: Tensor, guard: float) -> Tensor:
    """The root of sums of squares; with a guard (> 0) never below the exact one, whatever rounds or underflows.

    A square that is lost is below float64's smallest normal number, 2^-1022, so that the root lacks less than 2^-400
    however many are.

    Args:
        squares: the sums, any shape.
        guard: relative error of what they are made of, and of the root.
    """
    if guard:
        return squares.sqrt() * (1 + guard) + 2.0**-400
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)  # whose gradient at 0 is 0, not NaN


def ball_radius(layer: Dense | ConvLayer, box: Box, shape: Shape, guard: float) -> Tensor:
    """How far the layer's values may lie from those of the centre, (G, B, *shape of its result).

    Args:
        layer: reads the round box.
        box: the box.
        shape: in which the layer reads it.
        guard: as for :func:`ball_norm`.
    """
    size = (*box.radius.shape[:2], *shape)
    squares = replace(layer, weight=layer.weight.square()).radius(box.radius.reshape(size).square())
    found = ball_norm(squares, guard)
    return found if box.slack is None else found + layer.radius(box.slack.reshape(size))
