"""Gradient ascent on the dual of goals: slopes by α-CROWN, slopes and split multipliers together by β-CROWN.

Adam on every goal's own numbers, projected onto slopes in [0, 1] and multipliers >= 0. A step may lower a bound, so the
best of all steps is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.certification.dual import Balls, Goals, Layers, adaptive_slopes

_FIRST, _SECOND, _FLOOR = 0.9, 0.999, 1e-8  # Adam's two averages and its guard (Kingma & Ba, arXiv 1412.6980)


@dataclass(frozen=True)
class Ascent:
    """How the dual is climbed.

    Attributes:
        steps: gradient steps, >= 0.
        slope_rate: learning rate of slopes.
        multiplier_rate: learning rate of multipliers, relative to the size of the coefficients.
        decay: factor on both rates after each step.
    """

    steps: int = 20
    slope_rate: float = 0.1
    multiplier_rate: float = 0.05
    decay: float = 0.98


Bound = Callable[[Goals], Tensor]
"""Lower bounds (D,) of goals, differentiable in slopes and multipliers."""


def ascend(bound: Bound, goals: Goals, ascent: Ascent, deadline: Deadline = NEVER) -> tuple[Goals, Tensor]:
    """The goals with the best slopes and multipliers met, and their bounds (D,).

    Stops early when every goal's bound is positive, and when the deadline has passed.
    """
    with torch.no_grad():
        best, bounds = goals, bound(goals)
    if not goals.slopes:  # an affine network has nothing to climb
        return best, bounds
    split = {relu for relu, sign in goals.signs.items() if bool(sign.any())}
    climb = _Climb(goals, split, ascent)
    for _ in range(ascent.steps):
        if deadline.late():
            return best, bounds  # one bound more may take seconds
        if bool((bounds > 0).all()):
            break
        current = climb.goals()
        value = bound(current)
        better = value.detach() > bounds
        best, bounds = _chosen(better, current, best), torch.where(better, value.detach(), bounds)
        climb.step(value.sum())
    last = climb.goals()
    with torch.no_grad():
        value = bound(last)
    better = value > bounds
    return _chosen(better, last, best), torch.where(better, value, bounds)


def with_best_start(balls: Balls, bound: Bound, goals: Goals, deadline: Deadline = NEVER) -> Goals:
    """The goals with the better of the adaptive and the zero slopes: neither is always above the other.

    They stay as they are where the deadline has passed.
    """
    if deadline.late():
        return goals
    adaptive: Layers = {}
    for relu, (lower, upper) in balls.search.bounds.items():
        adaptive[relu] = adaptive_slopes(balls.search.node(relu), lower[0, goals.image], upper[0, goals.image])
    with torch.no_grad():
        other = replace(goals, slopes=adaptive)
        return _chosen(bound(other) > bound(goals), other, goals)


def _chosen(mask: Tensor, yes: Goals, no: Goals) -> Goals:
    """Slopes and multipliers of ``yes`` where the mask (D,) holds, else of ``no``."""

    def pick(one: Layers, other: Layers) -> Layers:
        masks = {relu: mask.reshape(-1, *[1] * (value.dim() - 1)) for relu, value in one.items()}
        return {relu: torch.where(masks[relu], value, other[relu]).detach() for relu, value in one.items()}

    return replace(no, slopes=pick(yes.slopes, no.slopes), multipliers=pick(yes.multipliers, no.multipliers))


class _Climb:
    """Adam's state for the numbers of some goals."""

    def __init__(self, goals: Goals, split: Iterable[int], ascent: Ascent) -> None:
        self._goals = goals
        self._slopes = {relu: v.clone().requires_grad_() for relu, v in goals.slopes.items()}
        self._multipliers = {relu: goals.multipliers[relu].clone().requires_grad_() for relu in split}
        self._rates = [ascent.slope_rate] * len(self._slopes) + [ascent.multiplier_rate] * len(self._multipliers)
        self._decay = ascent.decay
        self._first = [torch.zeros_like(v) for v in self._values()]
        self._second = [torch.zeros_like(v) for v in self._values()]
        self._count = 0

    def goals(self) -> Goals:
        """The goals with the current numbers, which a bound may be differentiated in."""
        return replace(self._goals, slopes=dict(self._slopes), multipliers=self._goals.multipliers | self._multipliers)

    def step(self, total: Tensor) -> None:
        """One step up the gradient of the sum of the goals' bounds."""
        values = self._values()
        gradients = torch.autograd.grad(total, values, allow_unused=True)
        self._count += 1
        scale = self._decay ** (self._count - 1) / (1 - _FIRST**self._count)
        with torch.no_grad():
            for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
                if gradient is None:
                    continue
                first = self._first[place].mul_(_FIRST).add_(gradient, alpha=1 - _FIRST)
                second = self._second[place].mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
                size = (second / (1 - _SECOND**self._count)).sqrt_().add_(_FLOOR)
                value.addcdiv_(first, size, value=self._rates[place] * scale)
                value.clamp_(0, 1) if place < len(self._slopes) else value.clamp_(min=0)

    def _values(self) -> list[Tensor]:
        return [*self._slopes.values(), *self._multipliers.values()]
