"""What certification says: one verdict per image, and their summary, computed from the verdicts alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gls_es.basics.intervals import wilson_interval
from gls_es.certification import telling

VerdictName = Literal["misclassified", "falsified", "certified", "unknown"]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
CLEAN = "clean"
EQUALITY = "equality"
REASONS = (
    *("stages", "timeout", "domains", "memory", "rounding", "solver", "activations", "overflow", "underflow"),
    EQUALITY,
)
"""Why an image is unknown: no complete stage was run; branch and bound ran out of seconds, of parts or of memory; what
is left lies within the slack for rounding; the solver of fully split parts is not installed, or there
is none since activations other than ReLU can be split no further; a number may overflow on
the way; underflow alone can make up half of what the margins lack, or more; or bounds prove it, but the module was seen
to compute something else than the traced graph, or another class, in its ball."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is known of one image.

    Attributes:
        index: position of the image in the images given to ``certify``.
        label: the class that must be kept.
        predicted: the class of the unperturbed image on the executor; -1 where its logits are not numbers. A tie with
            the label counts for the other class.
        verdict: "misclassified" (without perturbation), "falsified" (a counterexample is known), "certified" (no point
            of the ball is misclassified), "unknown".
        stage: the stage that decided, None for "unknown".
        margin: the least of f_y - f_j over j. Certified: a proven lower bound over the ball, > 0; unknown: the best
            proven lower bound; falsified and misclassified: its value at the counterexample or the image. None where
            there is no finite number.
        counterexample: a float32 point of the ball, (*shape) on the CPU, for "falsified", else None.
        reason: why an image is "unknown", one of ``REASONS``, else None.
        times: seconds per stage that saw the image, in cascade order; a batch's time is shared equally.
        became: the class of the counterexample on the executor, -1 where its logits are not numbers, else None.
    """

    index: int
    label: int
    predicted: int
    verdict: VerdictName
    stage: str | None
    margin: float | None
    counterexample: Tensor | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    became: int | None = None

    @property
    def seconds(self) -> float:
        """Seconds spent on the image."""
        return sum(self.times.values(), 0.0)

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the counterexample's little-endian float32 values, in hexadecimal."""
        return None if self.counterexample is None else hashlib.sha256(float32_bytes(self.counterexample)).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values; the counterexample is kept whole, as base64 of its float32 values."""
        example = None
        if self.counterexample is not None:
            example = {
                "sha256": self.sha256,
                "shape": list(self.counterexample.shape),
                "float32": base64.b64encode(float32_bytes(self.counterexample)).decode("ascii"),
            }
        return {
            "index": self.index,
            "label": self.label,
            "predicted": self.predicted,
            "verdict": self.verdict,
            "stage": self.stage,
            "margin": self.margin,
            "reason": self.reason,
            "seconds": self.seconds,
            "times": dict(self.times),
            "counterexample": example,
            "became": self.became,
        }


@dataclass(frozen=True)
class StageSummary:
    """One stage of the cascade: images it saw, images it decided, seconds it took on them."""

    seen: int
    decided: int
    seconds: float


@dataclass(frozen=True, eq=False)
class CertificationReport:
    """The verdicts of a set of images for one radius.

    Attributes:
        verdicts: one per image, in the images' order.
        eps: the radius in pixel units, before normalisation.
        stage_names: the cascade after the clean check, in order.
        execution: the arithmetic whose results are certified, see ``rounding.sound_margins``.
        clip: whether the ball is cut off at pixel values 0 and 1.
        checkpoint: digest of the checkpoint, None if a network was given.
        network: SHA-256 of the network's structure and weights.
        versions: versions of what computed the verdicts.
        norm: of the ball, "linf" or "l2".
        radii: SHA-256 of the pixels' radii, of which ``eps`` is the largest; None if it is that of all.
    """

    verdicts: tuple[Verdict, ...]
    eps: float
    stage_names: tuple[str, ...]
    execution: str
    clip: bool
    checkpoint: str | None
    network: str
    versions: Mapping[str, str]
    norm: str = "linf"
    radii: str | None = None

    def __str__(self) -> str:
        """The table that ``gls-es certify`` shows."""
        return telling.table_of(self.to_json())

    def to_dataframe(self) -> Any:
        """A pandas table with a row an image: index, label, predicted, verdict, stage, margin, reason, seconds."""
        names = ("index", "label", "predicted", "verdict", "stage", "margin", "reason", "seconds")
        return telling.frame_of([{name: getattr(verdict, name) for name in names} for verdict in self.verdicts])

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.verdicts)

    @property
    def counts(self) -> dict[str, int]:
        """Images per verdict, every verdict named."""
        return count_verdicts(self.verdicts)

    @property
    def natural_accuracy(self) -> float:
        """The fraction of images that are classified as labelled."""
        return self._fraction("misclassified")

    @property
    def adversarial_accuracy(self) -> float:
        """The fraction that is correct and not falsified: an upper limit of the true robust accuracy."""
        return self._fraction("misclassified", "falsified")

    @property
    def certified_accuracy(self) -> float:
        """The fraction that is certified: a lower limit of the true robust accuracy; unknown is not certified."""
        return self._fraction("misclassified", "falsified", "unknown")

    @property
    def unknown(self) -> int:
        """The number of images that are neither certified nor falsified nor misclassified."""
        return self.counts["unknown"]

    @property
    def seconds(self) -> float:
        """Seconds spent on all images, those of a resumed run included."""
        return sum((verdict.seconds for verdict in self.verdicts), 0.0)

    @property
    def stages(self) -> dict[str, StageSummary]:
        """Every stage in cascade order, the clean check first."""
        return {name: self._stage(name) for name in (CLEAN, *self.stage_names)}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Wilson 95 % intervals of the three accuracies."""
        names = ("natural_accuracy", "adversarial_accuracy", "certified_accuracy")
        return {name: wilson_interval(round(getattr(self, name) * self.n), self.n) for name in names}

    def to_json(self, *, verdicts: bool = False) -> dict[str, Any]:
        """The summary as plain values (accuracies are fractions), with every verdict if ``verdicts``."""
        table: dict[str, Any] = {
            "n": self.n,
            "eps": self.eps,
            "natural_accuracy": self.natural_accuracy,
            "adversarial_accuracy": self.adversarial_accuracy,
            "certified_accuracy": self.certified_accuracy,
            "intervals_95": {name: list(interval) for name, interval in self.intervals.items()},
            "unknown": self.unknown,
            "verdicts": self.counts,
            "stages": {name: vars(stage).copy() for name, stage in self.stages.items()},
            "seconds": self.seconds,
            "execution": self.execution,
            "clip": self.clip,
            "norm": self.norm,
            "radii": self.radii,
            "checkpoint": self.checkpoint,
            "network": self.network,
            "versions": dict(self.versions),
        }
        return table | {"images": [verdict.to_json() for verdict in self.verdicts]} if verdicts else table

    def _fraction(self, *lost: str) -> float:
        return (self.n - sum(self.counts[name] for name in lost)) / self.n

    def _stage(self, name: str) -> StageSummary:
        times = [verdict.times[name] for verdict in self.verdicts if name in verdict.times]
        decided = sum(verdict.stage == name for verdict in self.verdicts)
        return StageSummary(seen=len(times), decided=decided, seconds=sum(times, 0.0))


def count_verdicts(verdicts: tuple[Verdict, ...] | list[Verdict]) -> dict[str, int]:
    """Images per verdict, every verdict named, in the order of ``VERDICTS``."""
    return {name: sum(verdict.verdict == name for verdict in verdicts) for name in VERDICTS}


def float32_bytes(values: Tensor) -> bytes:
    """The values as little-endian float32 in row-major order."""
    return values.detach().cpu().to(torch.float32).contiguous().numpy().astype("<f4").tobytes()
