"""Search for an input of a box whose outputs fulfil all rows of a case, by gradients; what is found is executed anew.

Sign steps down the largest row of each case, from the centre and from random points, as in ``attack``; here the domain
is any box. Boxes of few inputs are then sampled densely, and steps with momentum (Dong et al., arXiv 1710.06081) go on
from the points where least is lacking, as long as all that has taken a small share of the time. A point counts only if
the executor's outputs fulfil the exact rows, with no tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.basics.property import Boundary, Case, Numbers, Row
from gls_es.certification.execution import Executor
from gls_es.network import Network

Replay = Callable[[Tensor], Tensor]
"""An executor: outputs (B, K) of inputs (B, *input_shape), both float32."""
Witness = tuple[Numbers, tuple[float, ...]]
"""Exact numbers in a box, and the outputs of the input that float32 makes of them."""

_STEPS = 50
_RESTARTS = 4
_AT_ONCE = 512
_SAMPLED_INPUTS = 16
_SAMPLES = 20_000
_BEST = 256
_ROUNDS = 3
_MOMENTUM = 0.8
_FIRST_STEP, _DECAY = 0.2, 0.93
_SHARE = 0.03  # of the time left, for sampling and what follows: bounds have to get theirs


@dataclass(frozen=True, eq=False)
class Group:
    """Boxes with the same cases.

    Attributes:
        rows: the inequalities of each case.
        network: gives (0, -g_1, -g_2, ...) of all rows in order, see :mod:`gls_es.certification.rows`.
        boxes: the boxes.
    """

    rows: tuple[tuple[Row, ...], ...]
    network: Network
    boxes: tuple[Boundary, ...]

    def shaped(self, ends: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Ends (n,) of boxes as (B, *input_shape)."""
        shape = (len(ends), *self.network.input_shape)
        return torch.stack([low for low, _ in ends]).reshape(shape), torch.stack([up for _, up in ends]).reshape(shape)

    def per_case(self, values: Tensor) -> list[Tensor]:
        """Values of all rows, (..., R), as one tensor per case."""
        return list(values.split([len(rows) for rows in self.rows], dim=-1))


def confirmed(point: Tensor, box: Boundary, cases: Iterable[tuple[Row, ...]], replay: Replay) -> Witness | None:
    """The witness that a point of a box is, if executing it fulfils all rows of a case."""
    written = box.written(point)
    if written is None:
        return None
    outputs = tuple(float(value) for value in replay(point[None])[0])
    violated = any(Case(box, rows).violated_by(outputs, written) for rows in cases)
    return (written, outputs) if violated else None


@dataclass
class Violations:
    """Looks for violations of one group's cases.

    Attributes:
        group: boxes and cases.
        replay: the executor that has to show a violation.
        seed: of random starts.
        deadline: when nothing new is tried.
    """

    group: Group
    replay: Replay
    seed: int
    deadline: Deadline
    _executor: Executor = field(init=False)

    def __post_init__(self) -> None:
        self._executor = Executor(self.group.network, dtype=torch.float32, device=torch.device("cpu"))

    def excess(self, points: Tensor) -> Tensor:
        """The largest row of every case, (B, cases), of points (B, *input_shape), float32; a violation is <= 0."""
        rows = -self._executor.logits(points)[:, 1:]
        return torch.stack([part.amax(dim=1) for part in self.group.per_case(rows)], dim=1)

    def confirmed(self, point: Tensor, box: Boundary) -> Witness | None:
        """The witness that a point is, if executing it violates a case."""
        return confirmed(point, box, self.group.rows, self.replay)

    def search(self) -> Witness | None:
        """Try every box and case."""
        size = max(1, _AT_ONCE // (_RESTARTS * len(self.group.rows)))
        for start in range(0, len(self.group.boxes), size):
            found = self._descend(self.group.boxes[start : start + size])
            if found is not None or self.deadline.late():
                return found
        if math.prod(self.group.network.input_shape) > _SAMPLED_INPUTS:
            return None
        generator = torch.Generator().manual_seed(self.seed)
        count = max(1, _SAMPLES // len(self.group.boxes))
        soon = self.deadline if self.deadline == NEVER else Deadline.after(_SHARE * self.deadline.left)
        for _ in range(_ROUNDS):
            for box in self.group.boxes:
                found = self._from_best(box, count, generator, soon)
                if found is not None or soon.late():
                    return found
        return None

    def _from_best(self, box: Boundary, count: int, generator: torch.Generator, soon: Deadline) -> Witness | None:
        """Steps from those of ``count`` random points that are best for each case; of fewer if time runs out."""
        lower, upper = (end[0] for end in self.group.shaped([box.points()]))
        width, cases = upper - lower, len(self.group.rows)
        points = torch.clamp(lower + torch.rand(count, *lower.shape, generator=generator) * width, lower, upper)
        known = self._excesses(points, soon)
        each = max(1, min(len(known), _BEST // cases))
        points = points[known.topk(each, dim=0, largest=False).indices.T.flatten()]
        wanted = torch.arange(cases).repeat_interleave(each)
        momentum = torch.zeros_like(points)
        for step in range(_STEPS + 1):
            points = points.detach().requires_grad_()
            excess = self.excess(points)
            found = self._harvest(points.detach()[:, None, None], excess.detach().amin(dim=1), (box,))
            if found is not None or step == _STEPS or soon.late():
                return found
            (gradient,) = torch.autograd.grad(excess.gather(1, wanted[:, None]).sum(), points)
            gradient = torch.nan_to_num(gradient)
            size = gradient.abs().flatten(1).mean(dim=1).reshape(-1, *[1] * lower.dim())
            momentum = _MOMENTUM * momentum + gradient / size.clamp_min(torch.finfo(size.dtype).tiny)
            moved = points.detach() - _FIRST_STEP * _DECAY**step * width * momentum.sign()
            points = torch.clamp(moved, lower, upper)
        return None

    @torch.no_grad()
    def _excesses(self, points: Tensor, soon: Deadline) -> Tensor:
        """:meth:`excess` of the points in turn, of those whose turn comes in half of the time, and of some at least."""
        half = soon if soon == NEVER else Deadline.after(soon.left / 2)
        found = []
        for part in points.split(_AT_ONCE):
            found.append(self.excess(part))
            if half.late():
                break
        return torch.cat(found)

    def _descend(self, boxes: tuple[Boundary, ...]) -> Witness | None:
        """All boxes, cases and starts at once: points are (starts, cases, boxes, *shape)."""
        lower, upper = self.group.shaped([box.points() for box in boxes])
        width = upper - lower
        generator = torch.Generator().manual_seed(self.seed)
        unit = torch.rand(_RESTARTS, len(self.group.rows), *lower.shape, generator=generator)
        unit[0] = 0.5
        points = torch.clamp(lower + unit * width, lower, upper)
        cases = torch.arange(len(self.group.rows))[None, :, None].expand(points.shape[:3]).reshape(-1)
        for step in range(_STEPS + 1):
            points = points.detach().requires_grad_()
            excess = self.excess(points.flatten(0, 2))
            found = self._harvest(points.detach(), excess.detach().amin(dim=1), boxes)
            if found is not None or step == _STEPS or self.deadline.late():
                return found
            (gradient,) = torch.autograd.grad(excess.gather(1, cases[:, None]).sum(), points)
            size = 0.25 * 0.1 ** sum(step >= part * _STEPS for part in (0.4, 0.7, 0.9))
            moved = points.detach() - size * width * torch.nan_to_num(gradient).sign()
            points = torch.clamp(moved, lower, upper)
        return None

    def _harvest(self, points: Tensor, least: Tensor, boxes: tuple[Boundary, ...]) -> Witness | None:
        candidates = (least <= 0).nonzero().flatten()
        best = candidates[least[candidates].argsort()][:3].tolist()
        for index in best:
            found = self.confirmed(points.flatten(0, 2)[index], boxes[index % len(boxes)])
            if found is not None:
                return found
        return None
