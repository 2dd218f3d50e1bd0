"""Margins of all pairs of classes at once: the rows W_y - W_j of the last layer, folded once per member.

Folding the margins of every image makes (K - 1) x F numbers an image. There are only K (K - 1) / 2 pairs up to their
sign, so with some images a product with all pairs is quicker, and images pick theirs from its result.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gls_es.network.layers import Dense

WASTE = 4
"""All pairs are folded if that is at most this many times as many rows as the images have margins."""


def worth_it(classes: int, images: int) -> bool:
    """Whether to fold all pairs and not each image's."""
    return classes * (classes - 1) // 2 <= WASTE * images * (classes - 1)


def folded_pairs(layer: Dense) -> Tensor:
    """W_i - W_j for all classes i < j, in the order of :func:`pair_places`: (G, K (K - 1) / 2, F)."""
    first, second, _ = pair_places(layer.weight.shape[1], layer.weight.device)
    return layer.weight.index_select(1, first).sub_(layer.weight.index_select(1, second))


def folded_margins(layer: Dense) -> Tensor:
    """W_j - W_y for every class y and each other class j in ascending order, (G, K, K - 1, F)."""
    classes = layer.weight.shape[1]
    others = layer.weight.index_select(1, other_classes(classes, layer.weight.device).flatten())
    return others.view(len(others), classes, classes - 1, -1).sub_(layer.weight.unsqueeze(2))


def interval_pair_margins(layer: Dense, sizes: Tensor, centre: Tensor, radius: Tensor, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j from the interval before the last layer.

    Args:
        layer: (G, K, F).
        sizes: the absolute values of :func:`folded_pairs`.
        centre: (G | 1, B, F).
        radius: (G | 1, B, F).
        labels: (B,), int64.

    Returns:
        (G, B, K - 1), j ascending.
    """
    spread = torch.matmul(radius, sizes.transpose(1, 2))  # (G, B, pairs)
    values = torch.matmul(centre, layer.weight.transpose(1, 2))
    if layer.bias is not None:
        values = values + layer.bias
    return pair_margins(values, spread, labels)


def pair_margins(values: Tensor, spread: Tensor, labels: Tensor) -> Tensor:
    """Lower bounds of f_y - f_j from the logits at the centre, (G, B, K), and each pair's radius, (G, B, pairs)."""
    classes = values.shape[2]
    place = pair_places(classes, labels.device)[2][labels].expand(len(spread), -1, -1)
    others = other_classes(classes, labels.device)[labels].expand(len(spread), -1, -1)
    own = labels[None, :, None].expand(len(spread), -1, 1)
    return values.gather(2, own) - values.gather(2, others) - spread.gather(2, place)


@lru_cache(maxsize=32)
def other_classes(classes: int, device: torch.device) -> Tensor:
    """For every class the others in ascending order, (K, K - 1)."""
    with torch.inference_mode(False):
        others = torch.arange(classes - 1, device=device).expand(classes, -1)
        return others + (others >= torch.arange(classes, device=device)[:, None])


@lru_cache(maxsize=32)
def pair_places(classes: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs i < j in order, (pairs,) each, and where the pair of a class and each other one stands, (K, K - 1)."""
    with torch.inference_mode(False):
        first, second = torch.triu_indices(classes, classes, 1, device=device)
        table = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        table[first, second] = table[second, first] = torch.arange(len(first), device=device)
        return first, second, table.gather(1, other_classes(classes, device))
