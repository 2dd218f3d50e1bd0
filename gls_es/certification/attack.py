"""Projected gradient descent on the L∞ ball: the cheapest way to show that an image is *not* robust.

Sign steps x ← Π(x - α sign ∇ objective) from several starts (Madry et al., arXiv 1706.06083), with margin objectives as
in Carlini & Wagner (arXiv 1608.04644). What differs: all points are float32 points of the *exact* ball, see ``ball``;
targets are ranked by their first-order minimum over the box, which is exact for affine networks; and a counterexample
counts only if the executor and a float64 evaluation, each on that one input alone, both misclassify it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.basics.modes import ordinary_modes, usable
from gls_es.certification.ball import inner_box, inside
from gls_es.certification.execution import Executor
from gls_es.errors import ConfigError
from gls_es.network import Network

LOSSES = ("margin", "cross-entropy", "targeted")


@dataclass(frozen=True)
class AttackOptions:
    """How hard the attack tries.

    Attributes:
        steps: gradient steps of every run, >= 1.
        restarts: starts of every objective, >= 1; the first is the image itself, the others uniform in the box.
        step_size: first step, relative to eps, > 0.
        decay: factor on the step at each milestone, in (0, 1].
        milestones: fractions of ``steps`` at which the step decays, ascending, in (0, 1).
        losses: objectives, from ``LOSSES``: the least margin, cross-entropy, and single margins.
        targets: how many single margins "targeted" tries, the most promising first, >= 1.
    """

    steps: int = 40
    restarts: int = 3
    step_size: float = 0.25
    decay: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.8, 0.9)
    losses: tuple[str, ...] = LOSSES
    targets: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "targets"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"AttackOptions.{name} must be a whole number of at least 1, not {value!r}")
        if not (_is_number(self.step_size) and 0 < self.step_size < math.inf):
            raise ConfigError(f"AttackOptions.step_size must be a positive finite number, not {self.step_size!r}")
        if not (_is_number(self.decay) and 0 < self.decay <= 1):
            raise ConfigError(f"AttackOptions.decay must lie in (0, 1], not {self.decay!r}")
        for name in ("milestones", "losses"):
            if not isinstance(getattr(self, name), tuple | list):
                raise ConfigError(f"AttackOptions.{name} must be a tuple, not {getattr(self, name)!r}")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        ascending = all(_is_number(m) and 0 < m < 1 for m in self.milestones)
        if not ascending or list(self.milestones) != sorted(self.milestones):
            raise ConfigError(f"AttackOptions.milestones must ascend within (0, 1), not {self.milestones!r}")
        if not self.losses or not all(isinstance(loss, str) and loss in LOSSES for loss in self.losses):
            raise ConfigError(f"AttackOptions.losses must name some of {', '.join(LOSSES)}, not {self.losses!r}")

    def objectives(self, num_classes: int) -> list[tuple[str, int]]:
        """The objectives of one restart as (loss, rank of the target)."""
        ranks = {"targeted": min(self.targets, num_classes - 1)}
        return [(loss, rank) for loss in self.losses for rank in range(ranks.get(loss, 1))]

    def step_at(self, step: int) -> float:
        """The step relative to eps at a step counted from 0."""
        return float(self.step_size * self.decay ** sum(step >= m * self.steps for m in self.milestones))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class AttackResult:
    """What the attack found on B images.

    Attributes:
        counterexamples: per image a confirmed float32 point of the ball, (*shape) on the CPU, or None.
        margins: the least margin reached per image, (B,) float64; of a counterexample, the larger of its two
            evaluations, hence <= 0.
    """

    counterexamples: tuple[Tensor | None, ...]
    margins: Tensor


@ordinary_modes()
def find_counterexamples(
    network: Network,
    images: Tensor,
    labels: Tensor,
    eps: float | Tensor,
    *,
    indices: list[int] | None = None,
    options: AttackOptions | None = None,
    dtype: torch.dtype = torch.float32,
    clip: bool = True,
    seed: int = 0,
    deadline: Deadline = NEVER,
) -> AttackResult:
    """Search every image's exact ball for a point that is not classified as labelled.

    Args:
        network: what is attacked.
        images: (B, *input_shape), float32, in [0, 1] if ``clip``; the attack runs on their device.
        labels: (B,), int64, the classes that should be kept.
        eps: radius in pixel units, >= 0; or each pixel's, float64, broadcasting to an image.
        indices: names of the images for the random starts, (B,); by default 0 .. B-1. An image's starts depend on its
            name and the seed only, not on who else is in the batch.
        options: how hard to try.
        dtype: format of the executor: float32, or float64 to attack the network's float64 evaluation.
        clip: whether the ball is cut off at 0 and 1.
        seed: of the random starts.
        deadline: when no further step is made.

    Returns:
        Counterexamples and least margins. A margin of exactly 0 is a tie, and counts as misclassified.
    """
    options = options or AttackOptions()
    images, labels = usable(images.detach()), usable(labels)
    names = list(range(len(images))) if indices is None else indices
    search = _Search(network, images, labels, eps, dtype=dtype, clip=clip, deadline=deadline)
    objectives = list(product(range(options.restarts), options.objectives(network.num_classes)))
    starts = [_starts(images[row].shape, options.restarts, seed=seed, index=name) for row, name in enumerate(names)]
    unit = torch.stack(starts, dim=1).to(images.device) if starts else images.new_zeros(options.restarts, *images.shape)
    search.run(unit, objectives, options)
    return AttackResult(tuple(search.counterexamples), search.margins.cpu())


def _starts(shape: torch.Size, restarts: int, *, seed: int, index: int) -> Tensor:
    """Uniform numbers (restarts - 1, *shape) of one image, preceded by a slot for the image itself."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
    return torch.cat([torch.zeros(1, *shape), torch.rand(restarts - 1, *shape, generator=generator)])


class _Search:
    """The state of one attack: the best of every image, and the images still without a counterexample."""

    def __init__(
        self,
        network: Network,
        images: Tensor,
        labels: Tensor,
        eps: float | Tensor,
        *,
        dtype: torch.dtype,
        clip: bool,
        deadline: Deadline,
    ) -> None:
        self.deadline = deadline
        self.executor = Executor(network, dtype=dtype, device=images.device)
        self.exact = Executor(network, dtype=torch.float64, device=images.device)
        self.images, self.labels, self.eps, self.clip = images, labels, eps, clip
        self.lower, self.upper = inner_box(images, eps=eps, clip=clip)
        self.open = torch.arange(len(images), device=images.device)
        self.margins = torch.full((len(images),), math.inf, dtype=torch.float64, device=images.device)
        self.counterexamples: list[Tensor | None] = [None] * len(images)

    def run(self, unit: Tensor, objectives: list[tuple[int, tuple[str, int]]], options: AttackOptions) -> None:
        """All runs at once: points are (R, open images, *shape), a run being a restart and an objective."""
        if len(self.images) == 0:
            return
        uniform = torch.clamp(self.lower + unit * (self.upper - self.lower), self.lower, self.upper)
        starts = torch.cat([self.images[None], uniform[1:]])
        points = starts[[restart for restart, _ in objectives]]
        targets = self._ranked_targets(options.targets) if "targeted" in options.losses else None
        reach = self.eps.to(points) if isinstance(self.eps, Tensor) else self.eps
        last = options.steps if bool((self.upper > self.lower).any()) else 0
        for step in range(last + 1):
            points = points.detach().requires_grad_(step < last)
            margins = self._margins(points)
            kept = self._harvest(points.detach(), margins.detach())
            if step == last or not kept.any() or self.deadline.late():
                return
            value = _objective(margins, [loss for _, loss in objectives], targets)
            (gradient,) = torch.autograd.grad(value, points)
            moved = points.detach() - options.step_at(step) * reach * torch.nan_to_num(gradient).sign()
            self.open = self.open[kept]
            targets = None if targets is None else targets[kept]
            points = torch.clamp(moved[:, kept], self.lower[self.open], self.upper[self.open])

    def _margins(self, points: Tensor) -> Tensor:
        labels = self.labels[self.open].repeat(len(points))
        return self.executor.margins(points.flatten(0, 1), labels).reshape(*points.shape[:2], -1)

    def _harvest(self, points: Tensor, margins: Tensor) -> Tensor:
        """Keep the best of every image and confirm candidates; returns which of the open images stay open."""
        least, run = torch.nan_to_num(margins.amin(dim=-1), nan=math.inf, posinf=math.inf, neginf=-math.inf).min(dim=0)
        self.margins[self.open] = torch.minimum(self.margins[self.open], least.double())
        kept = torch.ones_like(least, dtype=torch.bool)
        for column in (least <= 0).nonzero().flatten().tolist():
            image = int(self.open[column])
            margin = self._confirm(points[run[column], column], image)
            if margin is not None:
                self.counterexamples[image] = points[run[column], column].cpu().clone()
                self.margins[image] = margin
                kept[column] = False
        return kept

    def _confirm(self, point: Tensor, image: int) -> float | None:
        """The margin of a point that is in the exact ball and misclassified by both evaluations, else None."""
        x, label = point[None], self.labels[image : image + 1]
        if not bool(inside(x, self.images[image : image + 1], eps=self.eps, clip=self.clip)):
            return None
        return confirmed(x, label, (self.executor, self.exact))

    def _ranked_targets(self, count: int) -> Tensor:
        """Columns of the margins by ascending first-order minimum over the box, (B, min(count, K-1))."""
        x = self.images.detach().requires_grad_()
        margins = self.executor.margins(x, self.labels)
        minima = []
        for column in range(margins.shape[1]):
            if self.deadline.late():  # those that are left rank by what they are at the image
                minima += list(margins[:, column:].unbind(1))
                break
            (gradient,) = torch.autograd.grad(margins[:, column].sum(), x, retain_graph=True)
            drop = torch.minimum(gradient * (self.lower - x), gradient * (self.upper - x)).flatten(1).sum(dim=1)
            minima.append(margins[:, column] + drop)
        return torch.stack(minima, dim=1).detach().argsort(dim=1)[:, :count]


@torch.no_grad()
def confirmed(point: Tensor, label: Tensor, executors: tuple[Executor, ...]) -> float | None:
    """The largest of the executors' least margins at one point (1, *shape) if all misclassify it, else None."""
    margins = [float(run.margins(point, label).amin()) for run in executors]
    return max(margins) if all(margin <= 0 for margin in margins) else None


def _objective(margins: Tensor, losses: list[tuple[str, int]], targets: Tensor | None) -> Tensor:
    """The sum over runs and images of what each run lowers; margins are (R, B, K-1)."""
    total = margins.new_zeros(())
    for run, (loss, rank) in enumerate(losses):
        if loss == "margin":
            value = margins[run].amin(dim=1)
        elif loss == "cross-entropy":
            # its gradient is that of cross-entropy up to a positive factor, which may underflow to 0 there
            value = -torch.logsumexp(-margins[run], dim=1)
        else:
            assert targets is not None
            value = margins[run].gather(1, targets[:, rank : rank + 1])
        total = total + value.sum()
    return total
