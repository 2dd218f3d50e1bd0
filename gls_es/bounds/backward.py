"""The backward pass (CROWN, Zhang et al. 2018): a linear function of one node, bounded through the layers to the box.

Only upper bounds are propagated, since a lower bound of z is minus an upper bound of -z. The pass starts with rows of
coefficients on one node, walks the graph backwards, replaces each ReLU by the line that bounds the row from above, and
ends at the box, where the row's maximum is taken. Constants are never carried by biases: each ReLU's lines contain
the constant part of their pre-activation (see :class:`~gls_es.bounds.relaxation.Lines`), for the first layers the
value at the box' centre, so that at the box only |A| r is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gls_es.bounds.patches import Patch, to_maps, widened, windows, without_cells
from gls_es.bounds.roundness import ball_norm
from gls_es.bounds.step import mirrored_step, relu_step, size_dot
from gls_es.network.graph import Add, Conv, Linear, Nonlinear, Pool, Reshape, Scale, Shape
from gls_es.network.layers import Selection

if TYPE_CHECKING:
    from gls_es.bounds.query import Query


@dataclass
class Rows:
    """Coefficients on one node's value.

    Attributes:
        a: (G | 1, N, S, F). Without a patch N is the images (or 1, shared by all) and F the flat value; with one N is
            images x positions (or 1) and F is channels x window.
        patch: the windows the coefficients live on (one window: a whole map with a margin); None: the whole value.
        mirrored: the rows stand for themselves and, in a second half of S, for their negatives.
        inside: coefficients of pixels outside the map are known to be zero.
        fresh: nobody else holds ``a``, so that it may be overwritten.
        units: the rows are the unit vectors of these values: a linear layer's are then rows of its matrix.
    """

    a: Tensor
    patch: Patch | None = None
    mirrored: bool = False
    inside: bool = True
    fresh: bool = False
    units: slice | None = None

    def unmirrored(self) -> Rows:
        """The rows with their negatives written out."""
        return replace(self, a=torch.cat([self.a, -self.a], 2), mirrored=False) if self.mirrored else self

    def whole(self, shape: Shape, sites: Tensor | None) -> Rows:
        """The same rows on whole values: positions (or sites) become further specifications."""
        if self.patch is None:
            return self
        rows = self.unmirrored()
        assert rows.patch is not None
        return Rows(to_maps(rows.a, rows.patch, shape, sites))


def upper_bounds(query: Query, start: int, rows: Rows, images: slice, sites: Tensor | None = None) -> Tensor:
    """Upper bounds of linear functions of node ``start``, without the constant part of that node.

    Args:
        query: the network's layers, the box and the lines of the ReLUs before ``start``.
        start: index of the node the rows multiply.
        rows: the coefficients.
        images: which images of the query to bound.
        sites: at which positions the rows' windows stand, (G, B, U); None for all positions.

    Returns:
        (G, B, R) with R specifications per image, positions (or sites) first: R = positions x S.

    Raises:
        OutOfTime: the plan's deadline has passed.
    """
    query.plan.deadline.check()
    return _Pass(query, start, images, sites).run(rows)


class _Pass:
    def __init__(self, query: Query, start: int, images: slice, sites: Tensor | None) -> None:
        self.query = query
        self.start = start
        self.images = images
        self.sites = sites
        self.count = len(range(*images.indices(len(query.box))))
        self.nodes = query.graph.nodes
        self.waiting: dict[int, list[Rows]] = {}
        self.total: Tensor | None = None  # (G, B, R)

    def run(self, rows: Rows) -> Tensor:
        self.waiting[self.start] = [rows]
        box = self.query.regions.box
        for index in range(self.start, box - 1, -1):
            if index in self.waiting:
                merged = self._merged(self.waiting.pop(index), index)
                if index == box:
                    self._at_box(merged)
                elif isinstance(self.nodes[index], Nonlinear):
                    self._through_relu(merged, index)
                else:
                    self._through_affine(merged, index)
        assert self.total is not None
        return self.total

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _through_relu(self, rows: Rows, index: int) -> None:
        lines = self.query.seen_lines(index, self.images, rows.patch, self._sites(rows.patch))
        after, constant = (mirrored_step if rows.mirrored else relu_step)(rows.a, lines)
        added = self.query.seen_multipliers(index, self.images, rows.patch)
        if added is not None:
            after = after + added.unsqueeze(2)
        self._constant(constant)
        self._pass_on(index, 0, Rows(after, rows.patch, fresh=True))

    def _through_affine(self, rows: Rows, index: int) -> None:
        node = self.nodes[index]
        self._rounding(rows, index)
        if isinstance(node, Add):
            rows = replace(rows, fresh=False)
            self._pass_on(index, 0, rows)
            self._pass_on(index, 1, rows)
            return
        if isinstance(node, Reshape):
            self._pass_on(index, 0, rows.whole(node.shape, self._sites(rows.patch)))
            return
        layer = self.query.layers[index]
        if isinstance(layer, Selection):
            self._through_selection(rows, index, layer)
            return
        transposed = self.query.transposed(index)
        if rows.patch is None and not isinstance(node, (Conv, Pool)):
            if rows.units is not None and isinstance(node, Linear):
                rows = replace(rows, a=transposed.unit_rows(rows.units), units=None)
            else:
                rows = replace(rows, a=transposed.flat(rows.a, node.shape), fresh=True, units=None)
            self._pass_on(index, 0, rows)
            return
        patch = rows.patch or Patch((1, 1), (node.shape[1], node.shape[2]))
        rows = replace(rows, patch=patch)
        if isinstance(node, (Conv, Pool)) and not rows.inside:
            rows = self._clipped(rows, node.shape)
        elif isinstance(node, Scale):
            rows = self._written_out(rows)
        a, patch = transposed.patches(rows.a, patch, node.shape, self._sites(patch))
        inside = not isinstance(node, (Conv, Pool)) and rows.inside
        rows = replace(rows, a=a, patch=patch, inside=inside, fresh=True)
        source = self.nodes[node.inputs[0]].shape
        if patch.count > 1 and patch.area >= source[1] * source[2]:
            rows = rows.whole(source, self._sites(patch))
        self._pass_on(index, 0, rows)

    def _through_selection(self, rows: Rows, index: int, layer: Selection) -> None:
        """Coefficients on copies go back to where these came from; whole channels keep their windows."""
        node = self.nodes[index]
        channels = layer.places.by_channels(node.shape, *(self.nodes[i].shape for i in node.inputs))
        if rows.patch is None or channels is None:
            rows = rows.whole(node.shape, self._sites(rows.patch))
            for position, a in enumerate(layer.spread(rows.a)):
                self._pass_on(index, position, Rows(a, mirrored=rows.mirrored, fresh=True))
            return
        pixels = rows.a.unflatten(3, (node.shape[0], -1)).transpose(3, 4)
        for position, a in enumerate(channels.spread(pixels).split(channels.sizes, -1)):
            part = replace(rows, a=a.transpose(3, 4).flatten(3), fresh=True, units=None)
            self._pass_on(index, position, part)

    def _at_box(self, rows: Rows) -> None:
        box = self.query.box
        if not box.round:
            self._weighted(rows, box.radius[:, self.images])
            return
        if box.slack is not None:
            self._weighted(replace(rows, fresh=False), box.slack[:, self.images])
        self._at_ball(rows, box.radius[:, self.images])

    def _at_ball(self, rows: Rows, radius: Tensor) -> None:
        """Add the rows' maximum over the ellipsoid, ||A r||_2: the dual norm of L2 is L2."""
        seen = radius.flatten(2) if rows.patch is None else self._windows(radius, rows.patch)
        found = ball_norm((rows.a * seen.unsqueeze(2)).square().sum(3), self.query.guard)
        self._constant(torch.cat([found, found], 2) if rows.mirrored else found)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _pass_on(self, index: int, position: int, rows: Rows) -> None:
        self.waiting.setdefault(self.nodes[index].inputs[position], []).append(rows)

    def _merged(self, waiting: list[Rows], index: int) -> Rows:
        """The sum of what the node's readers passed on."""
        if len(waiting) == 1:
            return waiting[0]
        patches = [r.patch for r in waiting]
        if any(p is None for p in patches) or len({(p.positions, p.stride) for p in patches if p is not None}) > 1:
            waiting = [r.whole(self.nodes[index].shape, self._sites(r.patch)) for r in waiting]
            patches = []
        if not all(r.mirrored for r in waiting):
            waiting = [r.unmirrored() for r in waiting]
        if not patches:
            return Rows(_sum([r.a for r in waiting]), mirrored=waiting[0].mirrored)
        plain = [without_cells(r.a, r.patch) for r in waiting if r.patch is not None]
        hull = plain[0][1]
        for _, patch in plain[1:]:
            hull = hull.hull(patch)
        parts = [widened(a, patch, hull) for a, patch in plain]
        return Rows(_sum(parts), hull, waiting[0].mirrored, all(r.inside for r in waiting))

    def _clipped(self, rows: Rows, shape: Shape) -> Rows:
        """Zero the coefficients of pixels outside the map, which stand for padding."""
        assert rows.patch is not None
        if not any(rows.patch.overhang(shape)):
            return replace(rows, inside=True)
        mask = self._windows(rows.a.new_ones(1, 1, *shape), rows.patch)  # (1, count, C area) or (G, B U, C area)
        a = self._written_out(rows).a.unflatten(1, (-1, mask.shape[1])) * mask[:, None, :, None]
        return replace(rows, a=a.flatten(1, 2), inside=True)

    def _written_out(self, rows: Rows) -> Rows:
        """Rows on windows, with N for every image and position."""
        assert rows.patch is not None
        sites = self._sites(rows.patch)
        count = rows.patch.count if sites is None else sites.shape[2]
        return replace(rows, a=rows.a.expand(-1, self.count * count, -1, -1))

    def _rounding(self, rows: Rows, index: int) -> None:
        """Add what rounding errors in a node's value can do to the rows."""
        if self.query.errors is not None:
            error = self.query.errors.get(index)
            if error is not None:
                self._weighted(replace(rows, fresh=False), error[:, self.images])

    def _weighted(self, rows: Rows, weight: Tensor) -> None:
        """Add |A| · weight for (G | 1, B, *shape) nonnegative weights."""
        seen = weight.flatten(2) if rows.patch is None else self._windows(weight, rows.patch)
        found = size_dot(rows.a, seen, overwrite=rows.fresh)
        self._constant(torch.cat([found, found], 2) if rows.mirrored else found)

    def _windows(self, values: Tensor, patch: Patch) -> Tensor:
        return windows(values, patch, self._sites(patch))

    def _sites(self, patch: Patch | None) -> Tensor | None:
        """The sites if they matter: a whole map is one window, and holds what began as many."""
        return None if patch is None or patch.count == 1 else self.sites

    def _constant(self, value: Tensor) -> None:
        """Add (G, N, S) to the bounds; rows of all positions of an image lie side by side."""
        value = value.reshape(value.shape[0], self.count, -1)
        self.total = value if self.total is None else self.total + value


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
