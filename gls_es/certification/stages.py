"""The stages between the clean check and "unknown", each run only on the images that are still open.

A stage is a name and a call from :class:`OpenImages` to :class:`Outcome`. Lower bounds of single margins accumulate
over the stages (the elementwise maximum of proven bounds is proven), and so does the least margin that was reached.
A specification holds when every margin is > 0.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gls_es.basics.deadline import NEVER, Deadline
from gls_es.bounds import METHODS, Plan
from gls_es.certification.alpha import alpha_margins
from gls_es.certification.attack import AttackOptions, AttackResult, confirmed, find_counterexamples
from gls_es.certification.bab import Limits, branch_and_bound
from gls_es.certification.ball import inner_box
from gls_es.certification.dual import Balls
from gls_es.certification.execution import DTYPES, Executor
from gls_es.certification.layers import tighter
from gls_es.certification.leaves import LeafSolver
from gls_es.certification.round import ball_margins, find_in_ball
from gls_es.certification.rounding import outward_ball
from gls_es.certification.screen import screened_margins
from gls_es.certification.shared import narrowed_balls
from gls_es.network import Network

STAGES = ("quick-attack", "ibp", "crown-ibp", "attack", "crown", "best", "alpha", "bab")
"""The stages run by default, cheapest first."""
KNOWN_STAGES = ("quick-attack", "attack", *METHODS, "alpha", "alpha-shared", "alpha-layers", "bab")
"""Every name of a stage: the attacks, any relaxation, optimised slopes, and branch and bound."""
QUICK_STEPS = 8
"""Steps of the quick attack, which has one start and one objective: a hundredth of the other's work."""
ROUND_STAGES = (
    "quick-attack",
    "attack",
    *(name for name, method in METHODS.items() if method.balls and name != "deeppoly"),
)
"""The stages that know L2 balls, all of them run by default there."""
SHARED_SHARE = 0.25
"""The share of the time left in which ``alpha-shared`` begins with layers."""
MOMENT = 0.1
"""Seconds for an image that every stage but branch and bound gets in any case: short ones are never cut off."""


@dataclass(frozen=True)
class OpenImages:
    """Images of a batch that no stage has decided yet.

    Attributes:
        indices: their positions in the images given to ``certify``.
        images: (B, *input_shape), float32.
        labels: (B,), int64.
        lower: proven lower bounds of the margins over the ball, (B, K-1), float64; -inf where nothing is proven.
        reached: the least margin the executor was seen to reach in the ball, (B,), float64.
        balls: bounds of the pre-activations, from the first stage that keeps them on.
        left: seconds that the stages may still spend on each image; None: any number.
    """

    indices: list[int]
    images: Tensor
    labels: Tensor
    lower: Tensor
    reached: Tensor
    balls: Balls | None = None
    left: Sequence[float] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def keep(self, mask: Tensor) -> OpenImages:
        """The images where ``mask`` (B,) holds."""
        places = mask.nonzero()[:, 0]
        balls = None if self.balls is None else self.balls.at(places)
        rows = places.tolist()
        left = None if self.left is None else [self.left[row] for row in rows]
        indices = [self.indices[row] for row in rows]
        lower, reached = self.lower[mask], self.reached[mask]
        return OpenImages(indices, self.images[mask], self.labels[mask], lower, reached, balls, left)

    def deadline(self) -> Deadline:
        """When a stage that works on all of them together has spent what they have left, or a moment each."""
        if self.left is None:
            return NEVER
        return Deadline.after(len(self) * max(MOMENT, *self.left))


@dataclass(frozen=True)
class Outcome:
    """What a stage found.

    Attributes:
        images: the images it was given, with what is now known of them.
        certified: (B,), bool.
        counterexamples: per image a confirmed counterexample, or None.
        reasons: per image why a complete stage left it open, or None; None if the stage is not complete.
        seconds: per image what it took; None if the images took equal shares.
    """

    images: OpenImages
    certified: Tensor
    counterexamples: Sequence[Tensor | None]
    reasons: Sequence[str | None] | None = None
    seconds: Sequence[float] | None = None


Stage = Callable[[OpenImages], Outcome]


@dataclass(frozen=True)
class Specification:
    """What every stage needs to know.

    Attributes:
        network: what is certified.
        eps: radius in pixel units; the largest, if ``pixels`` are given.
        clip: whether the ball is cut off at 0 and 1.
        execution: the arithmetic whose results are certified, one of ``execution.DTYPES``.
        stages: the cascade after the clean check.
        seed: of the attack's random starts.
        attack: the attack's options.
        device: where to compute.
        limits: when the search for bounds gives up on an image.
        norm: "linf", or "l2" with the stages ``ROUND_STAGES``.
        pixels: each pixel's radius, float64 on ``device``, broadcasting to an image; None: ``eps`` for all.
    """

    network: Network
    eps: float
    clip: bool
    execution: str
    stages: tuple[str, ...]
    seed: int
    attack: AttackOptions
    device: torch.device
    limits: Limits
    norm: str = "linf"
    pixels: Tensor | None = None

    @property
    def radius(self) -> float | Tensor:
        """The radius, or each pixel's."""
        return self.eps if self.pixels is None else self.pixels


def make_stage(name: str, specification: Specification) -> Stage:
    """The stage of one of the ``KNOWN_STAGES``."""
    if name == "attack":
        return lambda images: _attack_stage(images, specification, specification.attack)
    if name == "quick-attack":
        steps = min(QUICK_STEPS, specification.attack.steps)
        quick = replace(specification.attack, steps=steps, restarts=1, losses=("margin",))
        return lambda images: _attack_stage(images, specification, quick)
    if name == "alpha":
        return lambda images: _alpha_stage(images, specification)
    if name == "alpha-shared":
        return lambda images: _shared_stage(images, specification)
    if name == "alpha-layers":
        return lambda images: _layers_stage(images, specification)
    if name == "bab":
        return _BranchAndBound(specification)
    return lambda images: _bound_stage(images, specification, method=name)


def _attack_stage(images: OpenImages, spec: Specification, options: AttackOptions) -> Outcome:
    deadline = images.deadline()
    find: Callable[..., AttackResult] = find_in_ball if spec.norm == "l2" else find_counterexamples
    result = find(
        spec.network,
        images.images,
        images.labels,
        spec.radius,
        indices=images.indices,
        options=options,
        dtype=DTYPES[spec.execution],
        clip=spec.clip,
        seed=spec.seed,
        deadline=deadline,
    )
    reached = torch.minimum(images.reached, result.margins.to(images.reached))
    none = torch.zeros_like(reached, dtype=torch.bool)
    return _in_time(Outcome(replace(images, reached=reached), none, result.counterexamples), deadline)


@torch.no_grad()
def _bound_stage(images: OpenImages, spec: Specification, *, method: str) -> Outcome:
    plan, kind = _plan(images), spec.execution
    if spec.norm == "l2":
        margins = ball_margins(
            spec.network, images.images, images.labels, method, eps=spec.eps, execution=kind, plan=plan
        )
    else:
        lower, upper = outward_ball(images.images, spec.radius, clip=spec.clip)
        margins = screened_margins(spec.network, lower, upper, images.labels, method, execution=kind, plan=plan)
    known = torch.where(margins.isfinite(), torch.maximum(images.lower, margins), images.lower)
    return _outcome(replace(images, lower=known), stage=method)


def _alpha_stage(images: OpenImages, spec: Specification) -> Outcome:
    deadline = images.deadline()
    balls = balls_of(images, spec)
    lower = alpha_margins(balls, images.lower, budget=spec.limits.budget, deadline=deadline)
    return _in_time(_outcome(replace(images, lower=lower, balls=balls), stage="alpha"), deadline)


def _shared_stage(images: OpenImages, spec: Specification) -> Outcome:
    deadline = images.deadline()
    soon = deadline if deadline == NEVER else Deadline.after(SHARED_SHARE * deadline.left)
    balls = narrowed_balls(balls_of(images, spec), deadline=soon)
    lower = alpha_margins(balls, images.lower, budget=spec.limits.budget, deadline=deadline)
    return _in_time(_outcome(replace(images, lower=lower, balls=balls), stage="alpha-shared"), deadline)


def _layers_stage(images: OpenImages, spec: Specification) -> Outcome:
    deadline = images.deadline()
    balls = tighter(balls_of(images, spec), budget=spec.limits.budget, deadline=deadline)
    lower = alpha_margins(balls, images.lower, budget=spec.limits.budget, deadline=deadline)
    return _in_time(_outcome(replace(images, lower=lower, balls=balls), stage="alpha-layers"), deadline)


class _BranchAndBound:
    """The stage ``bab`` with its executors, made once."""

    def __init__(self, spec: Specification) -> None:
        self._spec = spec
        formats = (DTYPES[spec.execution], torch.float64)
        self._executors = tuple(Executor(spec.network, dtype=dtype, device=spec.device) for dtype in formats)

    def __call__(self, images: OpenImages) -> Outcome:
        spec = self._spec
        begun = time.perf_counter()
        balls = balls_of(images, spec)
        lower, upper = outward_ball(images.images, spec.radius, clip=spec.clip)
        margins: dict[int, float] = {}

        def check(image: int, point: Tensor) -> Tensor | None:
            centre = images.images[image : image + 1]
            low, up = inner_box(centre, eps=spec.radius, clip=spec.clip)
            inside = torch.clamp(point[None].to(centre.dtype), low, up)
            margin = confirmed(inside, images.labels[image : image + 1], self._executors)
            if margin is None:
                return None
            margins[image] = margin
            return inside[0].cpu()

        share = (time.perf_counter() - begun) / len(images)
        left = None if images.left is None else [seconds - share for seconds in images.left]
        solver = LeafSolver(balls, lower, upper, check)
        found = branch_and_bound(balls, images.lower, solver, spec.limits, left=left)
        reached = images.reached.clone()
        for image, margin in margins.items():
            reached[image] = min(float(reached[image]), margin)
        outcome = _outcome(replace(images, lower=found.lower, reached=reached, balls=balls), stage="bab")
        return replace(
            outcome,
            counterexamples=found.counterexamples,
            reasons=found.reasons,
            seconds=[share + own for own in found.seconds],
        )


def balls_of(images: OpenImages, spec: Specification) -> Balls:
    """The images' balls, from an earlier stage or made now."""
    if images.balls is not None:
        return images.balls
    lower, upper = outward_ball(images.images, spec.radius, clip=spec.clip)
    plan = _plan(images)
    return Balls.around(spec.network, lower, upper, images.labels, execution=spec.execution, plan=plan)


def _plan(images: OpenImages) -> Plan:
    """What suits the images' device, with their deadline."""
    return replace(Plan.default(images.images.device.type), deadline=images.deadline())


def _in_time(outcome: Outcome, deadline: Deadline) -> Outcome:
    """The outcome, with the reason why it is none where the stage was cut off."""
    return replace(outcome, reasons=["timeout"] * len(outcome.images)) if deadline.late() else outcome


def out_of_time(images: OpenImages) -> Outcome:
    """What a stage found that was cut off."""
    nothing = torch.zeros(len(images), dtype=torch.bool, device=images.lower.device)
    return Outcome(images, nothing, [None] * len(images), ["timeout"] * len(images))


def _outcome(images: OpenImages, *, stage: str) -> Outcome:
    """Certify where every margin's bound is positive, unless the executor was seen to fail there."""
    proven = (images.lower.isfinite() & (images.lower > 0)).all(dim=1)
    seen_to_fail = images.reached <= 0
    if bool((proven & seen_to_fail).any()):
        warnings.warn(
            f"{stage} proves images that the executor was seen to misclassify inside the ball; they are left unknown. "
            "Please report this: the bounds are wrong, or the executor does not sum directly in its own precision",
            RuntimeWarning,
            stacklevel=2,
        )
    trusted = proven & ~seen_to_fail & images.reached.isfinite()  # where the executor overflows nothing is certified
    return Outcome(images, trusted, [None] * len(images))
