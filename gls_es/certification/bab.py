"""``bab``: branch and bound over the signs of unstable neurons, which decides every image if it is given time.

A goal that no slopes prove is split at a neuron: z >= 0 on one part of the ball, z <= 0 on the other. Each part is
bounded with slopes and multipliers climbed together from its parent's (β-CROWN, Wang et al., arXiv 2103.06624), with
the ball's pre-activation bounds and the signs that are fixed. A part is closed when its guarded bound is positive; an
empty part is, too, since multipliers of contradicting signs raise its bound without limit. A part whose neurons are all
fixed is a linear program (``leaves``). Parts of all goals and images are bounded in common batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.certification.alpha import ASCENT as ROOT_ASCENT
from gls_es.certification.alpha import climbed, goals_at_once, open_margins
from gls_es.certification.ascent import Ascent, ascend
from gls_es.certification.branching import children, choose
from gls_es.certification.dual import Balls, Goals
from gls_es.certification.leaves import LeafSolver

ASCENT = Ascent(steps=3, slope_rate=0.1, multiplier_rate=0.2)
"""The ascent of every part: short, since most parts are split further and their children go on from where it ended."""
CURVED_ASCENT = Ascent(steps=12, slope_rate=0.02, multiplier_rate=0.05)
"""That of parts of networks with other activations: the lines of a split neuron's cells are new, and so is its β."""
TIMEOUT = 20.0
"""Seconds that the stages may spend on an image by default."""
BUDGET = 2**30
"""Bytes that the search may use by default, the weights not counted."""
LARGEST_ROUND = 128
"""Parts that are split in one round at most."""


@dataclass(frozen=True)
class Limits:
    """When to give up on an image.

    Attributes:
        seconds: that the stages may spend on an image, its share of every batch and round counted; None: no limit.
        domains: parts an image may be split into; None: no limit.
        budget: bytes that the parts may take, and as many again while they are bounded.
    """

    seconds: float | None
    domains: int | None
    budget: int


@dataclass
class Search:
    """What branch and bound found on B images.

    Attributes:
        lower: proven lower bounds of the margins, (B, K-1), float64.
        counterexamples: per image a confirmed counterexample or None.
        reasons: why an image is still open, one of ``report.REASONS``; None where it is not.
        seconds: per image, its share of the time of every round.
        domains: parts that each image was split into.
    """

    lower: Tensor
    counterexamples: list[Tensor | None]
    reasons: list[str | None]
    seconds: list[float]
    domains: list[int]


@dataclass
class _Open:
    """Parts that are not closed, with their proven bounds (N,), float64."""

    goals: Goals
    bounds: Tensor

    def __len__(self) -> int:
        return len(self.bounds)

    def at(self, index: Tensor) -> _Open:
        return _Open(self.goals.at(index), self.bounds[index])

    def joined(self, other: _Open) -> _Open:
        return _Open(self.goals.joined(other.goals), torch.cat([self.bounds, other.bounds]))


def branch_and_bound(
    balls: Balls, lower: Tensor, solver: LeafSolver, limits: Limits, *, left: Sequence[float] | None = None
) -> Search:
    """Decide images by splitting.

    Args:
        balls: B images' balls.
        lower: what is proven already, (B, K-1), float64.
        solver: decides fully split parts, and checks candidate counterexamples.
        limits: when to give up.
        left: seconds that each image has left, if some of the limit was spent before.
    """
    every = math.inf if limits.seconds is None else limits.seconds
    return _Tree(balls, lower, solver, limits, [every] * len(lower) if left is None else list(left)).run()


class _Tree:
    """All open parts of all images."""

    def __init__(
        self, balls: Balls, lower: Tensor, solver: LeafSolver, limits: Limits, seconds: Sequence[float]
    ) -> None:
        self.balls, self.solver, self.limits, self.seconds = balls, solver, limits, seconds
        count = len(lower)
        self.found = Search(lower.clone(), [None] * count, [None] * count, [0.0] * count, [0] * count)
        self.given_up = torch.zeros(count, dtype=torch.bool, device=lower.device)
        self.least = torch.full_like(lower, torch.inf)  # of each goal's parts that are closed or given up
        self.width = max(1, min(LARGEST_ROUND, goals_at_once(balls, limits.budget) // 2))
        self.pace = 0.0  # seconds for a part of the last round

    def run(self) -> Search:
        for image in self.balls.overflowing.nonzero()[:, 0].tolist():
            self._give_up(image, "overflow")
        parts = self._within_limits(self._roots())
        while len(parts):
            chosen = _fair(parts, self._affordable(parts.goals.image))
            rest = torch.ones(len(parts), dtype=torch.bool, device=chosen.device)
            rest[chosen] = False
            taken = parts.at(chosen)
            started = time.perf_counter()
            fresh = self._divided(taken, self._deadline(taken.goals.image))
            spent = time.perf_counter() - started
            self.pace = spent / len(taken)
            self._spend(taken.goals.image, spent)
            parts = self._within_limits(parts.at(rest).joined(fresh))
        known = torch.where(self.least.isfinite(), torch.maximum(self.found.lower, self.least), self.found.lower)
        self.found.lower = known
        return self.found

    def _affordable(self, images: Tensor) -> int:
        """How many parts the next round may take to end when the images' time does, by the pace of the last one."""
        left = sum(self.seconds[image] - self.found.seconds[image] for image in images.unique().tolist())
        if self.width * self.pace <= left:
            return self.width
        return max(1, int(left / self.pace))

    def _roots(self) -> _Open:
        """One part for each margin without a positive bound, if slopes alone do not prove it."""
        nothing = torch.zeros(0, dtype=torch.int64, device=self.found.lower.device)
        found = _Open(self.balls.goals(nothing, nothing), self.found.lower.new_zeros(0))
        wanted = self.found.lower.masked_fill(self.given_up[:, None], 1.0)
        for image, column in open_margins(wanted, most=2 * self.width):
            started = time.perf_counter()
            roots = _Open(self.balls.goals(image, column), self.found.lower[image, column])
            roots = self._within_limits(roots)  # those of images without time are not climbed
            if len(roots) == 0:
                continue
            goals = climbed(self.balls, roots.goals, ROOT_ASCENT, deadline=self._deadline(roots.goals.image))
            found = found.joined(self._remaining(_Open(goals, roots.bounds)))
            self._spend(goals.image, time.perf_counter() - started)
        return found

    def _deadline(self, images: Tensor) -> Deadline:
        """When the first of some parts' images has no time left, if they are worked on together."""
        counts = images.bincount().tolist()
        shares = [
            (self.seconds[image] - self.found.seconds[image]) * len(images) / count
            for image, count in enumerate(counts)
            if count
        ]
        least = min(shares, default=math.inf)
        return Deadline.after(least) if least < math.inf else NEVER

    def _divided(self, parts: _Open, deadline: Deadline) -> _Open:
        """What stays open of the parts after a split of each."""
        choice = choose(self.balls, parts.goals, most=4 * self.width)
        self._solve(parts.at(~choice.exists), deadline)
        inner = parts.at(choice.exists)
        if len(inner) == 0:
            return inner
        halves = children(inner.goals, choice.neuron[choice.exists])
        climbed_halves, _ = ascend(
            self.balls.lower_bounds, halves, CURVED_ASCENT if halves.curved else ASCENT, deadline
        )
        for image in halves.image.tolist():
            self.found.domains[image] += 1
        return self._remaining(_Open(climbed_halves, inner.bounds.repeat(2)))

    def _remaining(self, parts: _Open) -> _Open:
        """The parts that their guarded bounds do not close."""
        proven = self.balls.proven_bounds(parts.goals)
        bounds = torch.where(proven.isfinite(), torch.maximum(proven, parts.bounds), parts.bounds)
        open_still = ~(bounds.isfinite() & (bounds > 0))
        parts = _Open(parts.goals, bounds)
        self._fold(parts.at(~open_still))
        return parts.at(open_still)

    def _solve(self, leaves: _Open, deadline: Deadline) -> None:
        """Decide parts without unstable neurons."""
        for place in range(len(leaves)):
            leaf = leaves.at(torch.tensor([place], device=leaves.bounds.device))
            image = int(leaf.goals.image)
            if self.given_up[image]:
                self._fold(leaf)
                continue
            solution = self.solver.solve(leaf.goals, deadline=deadline)
            if solution.goals is not None:
                leaf = _Open(solution.goals, leaf.bounds)
                if len(self._remaining(leaf)) == 0:
                    continue
            self._fold(leaf)
            self._give_up(image, solution.reason)
            self.found.counterexamples[image] = solution.counterexample

    def _within_limits(self, parts: _Open) -> _Open:
        """The parts of images that are not given up, after a look at the limits."""
        for image in parts.goals.image.unique().tolist():
            if self.found.seconds[image] > self.seconds[image]:
                self._give_up(image, "timeout")
            elif self.limits.domains is not None and self.found.domains[image] >= self.limits.domains:
                self._give_up(image, "domains")
        most = max(1, self.limits.budget // self.balls.bytes_of_a_goal)
        while len(parts := self._kept(parts)) > most:
            self._give_up(int(parts.goals.image.bincount().argmax()), "memory")
        return parts

    def _kept(self, parts: _Open) -> _Open:
        dropped = self.given_up[parts.goals.image]
        self._fold(parts.at(dropped))
        return parts.at(~dropped)

    def _give_up(self, image: int, reason: str | None) -> None:
        if not self.given_up[image]:
            self.given_up[image] = True
            self.found.reasons[image] = reason

    def _fold(self, parts: _Open) -> None:
        """Remember the least bound of every goal's parts that are not looked at any more."""
        place = parts.goals.image * self.least.shape[1] + parts.goals.column
        self.least.view(-1).scatter_reduce_(0, place, parts.bounds, "amin")

    def _spend(self, images: Tensor, seconds: float) -> None:
        for image in images.tolist():
            self.found.seconds[image] += seconds / len(images)


def _fair(parts: _Open, most: int) -> Tensor:
    """Places of at most ``most`` parts: every image's worst first, as many of each image as of any other."""
    by_bound = parts.bounds.argsort(stable=True)
    order = by_bound[parts.goals.image[by_bound].argsort(stable=True)]  # image after image, worst first
    counts = parts.goals.image.bincount()
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(parts), device=order.device) - first[parts.goals.image[order]]
    return order[rank.argsort(stable=True)[:most]]
