"""One batch through the clean check and the stages, each on what the ones before left open."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gls_es.basics.deadline import OutOfTime
from gls_es.certification.equality import LastLook
from gls_es.certification.execution import DTYPES, Executor, margins_of, other_classes
from gls_es.certification.obstacles import obstacles
from gls_es.certification.report import CLEAN, EQUALITY, Verdict, VerdictName
from gls_es.certification.round import inscribed
from gls_es.certification.rounding import outward_ball
from gls_es.certification.stages import OpenImages, Outcome, Specification, make_stage, out_of_time


@dataclass
class _Draft:
    """A verdict in the making: "unknown" until a stage says otherwise."""

    label: int
    predicted: int
    verdict: VerdictName = "unknown"
    stage: str | None = None
    margin: float | None = None
    reason: str | None = "stages"
    counterexample: Tensor | None = None
    became: int | None = None
    times: dict[str, float] = field(default_factory=dict)

    def decide(self, verdict: VerdictName, stage: str, margin: float) -> None:
        self.verdict, self.stage, self.margin, self.reason = verdict, stage, _finite(margin), None

    def leave_unknown(self, reason: str) -> None:
        """Name why no stage may decide any more; a counterexample that was found still counts."""
        if self.verdict == "unknown":
            self.reason = reason


class Cascade:
    """The clean check and the stages of a specification, ready for batch after batch.

    Args:
        spec: what is certified and how.
    """

    def __init__(self, spec: Specification) -> None:
        self._spec = spec
        self._device = spec.device
        self._seconds = spec.limits.seconds
        self._last_look = LastLook(spec.network, dtype=DTYPES[spec.execution], device=spec.device)
        self._executor = Executor(spec.network, dtype=DTYPES[spec.execution], device=spec.device)
        self._stages = {name: make_stage(name, spec) for name in spec.stages}

    def decide(self, indices: list[int], images: Tensor, labels: Tensor) -> list[Verdict]:
        """The verdicts of a batch.

        Args:
            indices: names of the images, which also pick their random numbers.
            images: (B, *input_shape), float32.
            labels: (B,), int64.
        """
        drafts, rest = self._clean_check(indices, images.to(self._device), labels.to(self._device))
        for name, stage in self._stages.items():
            if not len(rest):
                break
            started = time.perf_counter()
            rest = self._timed(rest, drafts)
            try:
                outcome = stage(rest)
            except OutOfTime:
                outcome = out_of_time(rest)
            differs = self._differing(outcome)
            left = _apply(replace(outcome, certified=outcome.certified & ~differs), drafts, stage=name) & ~differs
            for index, example in zip(rest.indices, outcome.counterexamples, strict=True):
                if example is not None:
                    drafts[index].became = self._class_of(example, drafts[index].label)
            for row in differs.nonzero().flatten().tolist():
                drafts[rest.indices[row]].leave_unknown(EQUALITY)
            seconds = outcome.seconds or [(time.perf_counter() - started) / len(rest)] * len(rest)
            for index, share in zip(rest.indices, seconds, strict=True):
                drafts[index].times[name] = share
            rest = outcome.images.keep(left)
        if len(rest):
            self._explain(rest, drafts)
        return [Verdict(index=index, **vars(drafts[index])) for index in indices]

    @torch.no_grad()
    def _class_of(self, example: Tensor, label: int) -> int:
        """What a counterexample is classified as; a tie with the label counts for the other class."""
        logits = self._executor.logits(example[None].to(self._device))[0].clone()
        logits[label] = -math.inf
        return -1 if bool(logits.isnan().any()) else int(logits.argmax())

    def _explain(self, rest: OpenImages, drafts: dict[int, _Draft]) -> None:
        """Write into the drafts what was proven of the images that stay open, and what no search could change."""
        spec = self._spec
        ends = outward_ball(rest.images, spec.radius, clip=spec.clip)  # of a round ball the box around it
        bounds = None if rest.balls is None else rest.balls.proof.bounds
        found = obstacles(spec.network, *ends, rest.labels, rest.lower, execution=spec.execution, bounds=bounds)
        for index, lower, reason in zip(rest.indices, rest.lower.amin(dim=1).tolist(), found, strict=True):
            drafts[index].margin = _finite(lower)
            drafts[index].reason = reason or drafts[index].reason

    def _timed(self, images: OpenImages, drafts: dict[int, _Draft]) -> OpenImages:
        """The images with what the stages may still spend on each; the clean check is not counted."""
        if self._seconds is None:
            return images
        spent = (sum(s for name, s in drafts[i].times.items() if name != CLEAN) for i in images.indices)
        return replace(images, left=[self._seconds - seconds for seconds in spent])

    def _differing(self, outcome: Outcome) -> Tensor:
        """Which of the images that a stage certifies must stay unknown, (B,) bool, after a last look at the module."""
        differs = torch.zeros_like(outcome.certified)
        rows = outcome.certified.nonzero().flatten()
        if len(rows):
            images, labels = outcome.images.images[rows], outcome.images.labels[rows]
            spec = self._spec
            reach = inscribed(spec.eps, images[0].numel()) if spec.norm == "l2" else spec.radius
            differs[rows] = ~self._last_look.stands(images, labels, eps=reach, clip=spec.clip, seed=spec.seed)
        return differs

    @torch.no_grad()
    def _clean_check(self, indices: list[int], images: Tensor, labels: Tensor) -> tuple[dict[int, _Draft], OpenImages]:
        """Decide what is misclassified as it is; a tie with the label counts as misclassified."""
        started = time.perf_counter()
        margins = margins_of(self._executor.logits(images), labels)
        correct = (margins > 0).all(dim=1)
        rivals = other_classes(labels, num_classes=margins.shape[1] + 1).gather(1, margins.argmin(dim=1)[:, None])[:, 0]
        predicted = torch.where(correct, labels, rivals).masked_fill(margins.isnan().any(dim=1), -1)
        reached = margins.amin(dim=1).double()
        drafts = {
            index: _Draft(label=label, predicted=found)
            for index, label, found in zip(indices, labels.tolist(), predicted.tolist(), strict=True)
        }
        for index, right, margin in zip(indices, correct.tolist(), reached.tolist(), strict=True):
            if not right:
                drafts[index].decide("misclassified", CLEAN, margin)
        for draft in drafts.values():
            draft.times[CLEAN] = (time.perf_counter() - started) / len(indices)
        nothing = torch.full_like(margins, -math.inf, dtype=torch.float64)
        return drafts, OpenImages(indices, images, labels, nothing, reached).keep(correct)


def _apply(outcome: Outcome, drafts: dict[int, _Draft], *, stage: str) -> Tensor:
    """Write a stage's decisions into the drafts; returns which images are still open, (B,) bool."""
    images = outcome.images
    lower, reached = images.lower.amin(dim=1).tolist(), images.reached.tolist()
    left = ~outcome.certified
    for row, (index, certified) in enumerate(zip(images.indices, outcome.certified.tolist(), strict=True)):
        example = outcome.counterexamples[row]
        if example is not None:  # outranks a certificate: the two cannot both be true
            drafts[index].decide("falsified", stage, reached[row])
            drafts[index].counterexample = example
            left[row] = False
        elif certified:
            drafts[index].decide("certified", stage, lower[row])
        elif outcome.reasons is not None and outcome.reasons[row] is not None:
            drafts[index].reason = outcome.reasons[row]
    return left


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
