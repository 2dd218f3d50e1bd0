"""Which values of a node a tensor shows, told from how both lie in the same memory.

A slice, a permutation or an expansion is another way to walk through memory that holds a node's values. Where every
image's walk meets its own values only, at the same places for all images, it is a selection of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.network.storages import Order


def places_of(tensor: Tensor, content: Order, batch: int) -> Tensor | None:
    """The places among an image's values that a tensor shows of it, flat, (m,) int64; None if it is no selection.

    Args:
        tensor: what is looked at; its entries, row by row, are those of image after image.
        content: how the values, image after image, lie in its memory.
        batch: how many images there are.
    """
    order = Order.of(tensor)
    if order.dtype is None or order.dtype != content.dtype or order.numel % batch or order.numel == 0:
        return None
    held, seen = _positions(content), _positions(order)
    table = torch.full((int(max(held.max(), seen.max())) + 1,), -1)
    table[held] = torch.arange(len(held))
    if not torch.equal(table[held], torch.arange(len(held))):
        return None  # one number of memory stands for several values
    found = table[seen].view(batch, -1)
    size = len(held) // batch
    images = torch.div(found, size, rounding_mode="floor")
    if not torch.equal(images, torch.arange(batch)[:, None].expand_as(images)):
        return None  # of other images, or of memory that holds none of the values
    places = found.remainder(size)
    return places[0] if torch.equal(places, places[:1].expand_as(places)) else None


def _positions(order: Order) -> Tensor:
    """Where in memory the entries lie, row by row."""
    places = torch.full((1,), order.offset)
    for size, step in order.axes:
        places = (places[:, None] + torch.arange(size) * step).flatten()
    return places
