"""The input box: centre and radius, with the copies of them that a convolution reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from gls_es.network.graph import Window


@dataclass
class Box:
    """All x with |x - centre| <= radius, elementwise; or if ``round`` an ellipsoid in that box, see below.

    Both are (1, B, *input_shape), shared by all members, or (P, B, *input_shape), each member's own.

    Attributes:
        centre: of the box.
        radius: of the box, elementwise.
        round: only centre + radius * u with ||u||_2 <= 1 belong to it: an L2 ball, or what scaling makes of one.
        slack: of a round one, what is added elementwise to each such point in either direction; None: nothing.
    """

    centre: Tensor
    radius: Tensor
    round: bool = False
    slack: Tensor | None = None
    _columns: dict[Window, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _pixels: dict[Window, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor) -> Box:
        """The box [lower, upper], (B, *input_shape) each."""
        return cls.of_members(lower[None], upper[None])

    @classmethod
    def of_members(cls, lower: Tensor, upper: Tensor) -> Box:
        """The members' boxes [lower, upper], (P | 1, B, *input_shape) each."""
        return cls((lower + upper) / 2, (upper - lower) / 2)

    def __len__(self) -> int:
        return self.centre.shape[1]

    def images(self, start: int, stop: int) -> Box:
        """The boxes of the images start:stop (views)."""
        part = self._with(lambda v: v[:, start:stop])
        part._columns = {w: (c[start:stop], r[start:stop]) for w, (c, r) in self._columns.items()}
        part._pixels = {w: (c[:, start:stop], r[:, start:stop]) for w, (c, r) in self._pixels.items()}
        return part

    def selected(self, images: Tensor) -> Box:
        """The boxes of ``images`` (D,), int64; one may be named several times."""
        return self._with(lambda v: v[:, images])

    def members(self, start: int, stop: int) -> Box:
        """The boxes of the members start:stop (views), or these, if all members share them."""
        return self._with(lambda v: v[start:stop]) if len(self.centre) > 1 else self

    @property
    def reach(self) -> Tensor:
        """How far its points may lie from the centre, elementwise."""
        return self.radius if self.slack is None else self.radius + self.slack

    def _with(self, part: Callable[[Tensor], Tensor]) -> Box:
        slack = None if self.slack is None else part(self.slack)
        return Box(part(self.centre), part(self.radius), self.round, slack)

    def columns(self, window: Window) -> tuple[Tensor, Tensor]:
        """Centre and radius of shared boxes as a convolution's columns, (B, C kh kw, positions); made once.

        With few input channels a matrix product with shared columns is several times faster than a convolution for
        every member.
        """
        found = self._columns.get(window)
        if found is None:
            shape = (window.kernel, window.dilation, window.padding, window.stride)
            found = self._columns[window] = (F.unfold(self.centre[0], *shape), F.unfold(self.radius[0], *shape))
        return found

    def worth_columns(self, window: Window, members: int) -> bool:
        """Whether products with the columns pay: for one member only if they are there already."""
        return (
            not self.round
            and len(self.centre) == 1
            and window.groups == 1
            and (members > 1 or window in (*self._columns, *self._pixels))
        )

    def pixels(self, window: Window) -> tuple[Tensor, Tensor]:
        """What each pixel of a convolution's result reads, (C kh kw + 1, B, positions) and (C kh kw, B, positions).

        The columns of :meth:`columns` in another order, those of the centre with a 1 at their end for the bias; made
        once. Products with all members' kernels give pixels with the channels of all members side by side.
        """
        found = self._pixels.get(window)
        if found is None:
            shape = (window.kernel, window.dilation, window.padding, window.stride)
            centre, radius = (F.unfold(v[0], *shape).transpose(0, 1) for v in (self.centre, self.radius))
            found = self._pixels[window] = (F.pad(centre, (0, 0, 0, 0, 0, 1), value=1.0), radius.contiguous())
        return found
