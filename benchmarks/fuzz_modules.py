"""Write random modules as Python code, certify them, and attack what runs: every certificate has to hold.

Each module is a class with a ``forward`` of random statements: aliases (views, Identity, Dropout, detach), steps in
place on any name, optional arguments, ``alpha``, hooks, state, buffers, reused layers, shared weights. What a module
computes is asked of the module alone. A module is read or refused; an image that is certified is attacked with random
points and corners of its ball, points on segments between corners, and sign steps along the executed module's
differences. A point of a certified ball with another class is a contradiction.

    python benchmarks/fuzz_modules.py --seconds 60 --seed 0 --json
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from fuzzed_code import write_module, write_simple
from torch import Tensor, nn

import gls_es

POINTS = 512
FAR = 1e4
VERDICTS = ("certified", "falsified", "unknown", "misclassified")
FAULTS = ("contradictions", "images_changed", "bare_errors")
# The default order attacks first and so hides most wrong bounds; the others ask bounds and searches before it.
STAGES = (
    ("attack", "ibp", "crown-ibp", "crown", "best", "alpha", "bab"),
    ("crown-ibp", "crown", "attack"),
    ("alpha", "bab", "attack"),
)


def build(code: str, seed: int, bias: Tensor | None = None) -> nn.Module:
    """The module of a code, with weights drawn for a seed, and the given bias of its last layer."""
    space: dict[str, Any] = {"torch": torch, "nn": nn, "F": nn.functional}
    exec(code, space)  # the point of this script
    torch.manual_seed(seed)
    module: nn.Module = space["Fuzzed"]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if bias is not None:
            module.get_parameter("last.bias").copy_(bias)
    return module.eval()


@torch.no_grad()
def near_a_tie(module: nn.Module, image: Tensor, eps: float, draw: random.Random) -> Tensor:
    """A last bias with which two classes are close at an image, and the third or a common shift may be large.

    The margin is drawn around what points of the ball change of it, so that about half of the balls are robust, and a
    misread step decides wrongly. A logit of -1e4 never wins, yet hides differences from who compares with the largest.
    """
    bias = module.get_parameter("last.bias").clone()
    low, high = ball(image, eps)
    logits = module(torch.cat([image[None], low + torch.rand(POINTS, *image.shape) * (high - low)]))
    wins, loses, third = draw.sample(range(3), 3)
    margins = logits[:, wins] - logits[:, loses]
    wanted = draw.uniform(0.1, 2.0) * float(margins[0] - margins.min()) + 1e-4
    bias[loses] += margins[0] - wanted
    bias[third] -= FAR
    return bias + (FAR if draw.random() < 0.2 else 0.0)


def ball(image: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The ends of an image's ball, a little inside, cut off at 0 and 1."""
    return (image - 0.9999 * eps).clamp(0, 1), (image + 0.9999 * eps).clamp(0, 1)


@torch.no_grad()
def broken(module: nn.Module, image: Tensor, label: int, eps: float, generator: torch.Generator) -> Tensor | None:
    """A float32 point of the ball, cut off at 0 and 1, to which the executed module gives another class, or None."""
    low, high = ball(image, eps)
    unit = torch.rand(POINTS, *image.shape, generator=generator)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * image.numel()).reshape(-1, *image.shape)
    between = corners[torch.randint(len(corners), (POINTS,), generator=generator)] * unit
    points = low + torch.cat([unit, corners, between]) * (high - low)
    for _ in range(4):  # towards smaller margins: the best points so far, moved at random
        margins = _margins(module, points, label)
        if bool((margins <= 0).any()):
            return points[margins.argmin()]
        best = points[margins.argsort()[:64]].repeat(4, 1)
        step = (torch.rand(best.shape, generator=generator) - 0.5) * (high - low) * 0.5
        points = torch.clamp(best + step, low, high)
    return None


def _margins(module: nn.Module, points: Tensor, label: int) -> Tensor:
    logits = module(points.clone())
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return torch.nan_to_num((logits[:, label, None] - others).amin(dim=1), nan=-1.0)


@dataclass(frozen=True)
class Judged:
    """What became of a trial.

    Attributes:
        verdicts: of the images; empty if the module was refused.
        refused: why it was refused; None if it was read.
        faults: what must not happen, as (kind, what was seen); the kinds are ``FAULTS``.
    """

    verdicts: tuple[str, ...] = ()
    refused: str | None = None
    faults: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Trial:
    """A module with images to certify."""

    code: str
    number: int
    bias: Tensor | None
    images: Tensor
    labels: Tensor
    eps: float
    stages: tuple[str, ...]

    @classmethod
    def drawn(cls, code: str, draw: random.Random, generator: torch.Generator, *, tuned: bool) -> Trial | None:
        """A trial of a code, with a last bias that makes the first image a close call; None if it does not run."""
        number, eps = draw.randrange(2**31), draw.choice((0.01, 0.05, 0.1))
        images = torch.rand(3, 3, generator=generator)
        try:
            bias = near_a_tie(build(code, number), images[0], eps, draw) if tuned else None
            labels = build(code, number, bias)(images.clone()).argmax(1)
        except (RuntimeError, TypeError, AttributeError):
            return None
        return cls(code, number, bias, images, labels, eps, draw.choice(STAGES))

    def judged(self, generator: torch.Generator) -> Judged:
        """Certify, and attack what was certified."""
        given = self.images.clone()
        module = build(self.code, self.number, self.bias)
        try:
            report = gls_es.certify(module, given, self.labels, self.eps, stages=self.stages, timeout=1.0, seed=0)
        except gls_es.GlsEsError as error:
            return Judged(refused=without_names(str(error)), faults=self._changed(given))
        except Exception as error:
            sentence = f"{type(error).__name__}: {error}"
            return Judged(refused=f"bare {type(error).__name__}", faults=(("bare_errors", sentence),))
        faults = list(self._changed(given))
        for verdict in report.verdicts:
            if verdict.verdict == "certified":
                again, image = build(self.code, self.number, self.bias), self.images[verdict.index]
                point = broken(again, image, verdict.label, self.eps, generator)
                if point is not None:
                    seen = f"{point.tolist()} in the ball of {image.tolist()}, eps {self.eps}, label {verdict.label}"
                    faults.append(("contradictions", seen))
        return Judged(tuple(verdict.verdict for verdict in report.verdicts), None, tuple(faults))

    def _changed(self, given: Tensor) -> tuple[tuple[str, str], ...]:
        return () if torch.equal(given, self.images) else (("images_changed", "the caller's images are others now"),)

    def example(self, seen: str) -> str:
        """The trial as a text from which it can be built again."""
        bias = None if self.bias is None else self.bias.tolist()
        return f"# {seen}\n# weights of seed {self.number}, last bias {bias}, stages {self.stages}{self.code}"


def fuzz(seconds: float, seed: int, *, most: int | None = None) -> dict[str, Any]:
    """Counts of what became of random modules, until the time is up or ``most`` modules were tried."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    counts = dict.fromkeys(("modules", "read", "simple", "simple_read", *VERDICTS), 0)
    reasons: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    examples: dict[str, str] = {}  # the shortest of each kind
    begun = time.monotonic()
    while time.monotonic() - begun < seconds and (most is None or counts["modules"] < most):
        simple = draw.random() < 0.5
        code = write_simple(draw) if simple else write_module(draw)
        trial = Trial.drawn(code, draw, generator, tuned=simple or draw.random() < 0.3)
        if trial is None:
            continue  # no program, with or without us
        counts["modules"] += 1
        counts["simple"] += simple
        judged = trial.judged(generator)
        for verdict in judged.verdicts:
            counts[verdict] += 1
        for kind, seen in judged.faults:
            faults[kind] += 1
            examples[kind] = min(examples.get(kind, text := trial.example(seen)), text, key=len)
        if judged.refused is None:
            counts["read"] += 1
            counts["simple_read"] += simple
        else:
            reasons[judged.refused] += 1
    return {
        "seed": seed,
        **counts,
        "refused": counts["modules"] - counts["read"],
        "reasons": dict(reasons.most_common()),
        **{kind: faults[kind] for kind in FAULTS},
        "seconds": round(time.monotonic() - begun, 1),
        "examples": examples,
    }


def without_names(sentence: str) -> str:
    """A refusal without what differs from module to module, so that equal ones can be counted."""
    first = sentence.partition("; ")[0]
    return re.sub(r"'.*?'|h\d+|\(.*?\) ?|[-\d.]+|^.*?: ", "", first).strip()[:90]


def main() -> int:
    """Run, print counts, and fail if a certificate did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    result = fuzz(options.seconds, options.seed)
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        examples, reasons = result.pop("examples"), result["reasons"]
        result["reasons"] = "".join(f"\n    {count:5d}  {reason}" for reason, count in reasons.items())
        sys.stdout.writelines(f"{name}: {value}\n" for name, value in result.items())
        sys.stdout.writelines(f"\n# {kind}\n{text}" for kind, text in examples.items())
    good = not any(result[kind] for kind in FAULTS) and 2 * result["read"] >= result["modules"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
