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
from typing import Any

import torch
from torch import Tensor, nn

import gls_es

WIDTH = 4
POINTS = 512
# A statement is a template over the names that exist: {h} and {g} activations, {n} a new name, {c} a number.
PLAIN = (
    "{n} = self.relu({h})",
    "{n} = torch.relu({h})",
    "{n} = self.a({h})",
    "{n} = self.b({h})",
    "{n} = self.twin({h})",
    "{n} = self.norm({h})",
    "{n} = {h} + {g}",
    "{n} = {h} - {g}",
    "{n} = {h} * {c}",
    "{n} = {c} - {h}",
    "{n} = {h} * self.scale + self.shift",
    "{n} = ({h} - self.shift) / self.divisor",
    "{n} = -{h}",
    "{n} = {h}.clone()",
)
ALIAS = (
    "{n} = self.same({h})",
    "{n} = self.drop({h})",
    "{n} = self.flat({h})",
    "{n} = F.dropout({h}, 0.5, self.training)",
    "{n} = {h}.view(-1, 4)",
    "{n} = {h}.reshape(len({h}), 4)",
    "{n} = {h}.unsqueeze(1).squeeze(1)",
    "{n} = {h}[:]",
    "{n} = {h}[...]",
    "{n} = {h}.detach()",
    "{n} = {h}.data",
    "{n} = {h}.contiguous()",
    "{n} = {h}.flatten(1)",
    "{n} = {h}.chunk(1, 1)[0]",
    "{n} = {h}.expand(-1, 4)",
    "{n} = {h}.t().t()",
    "{n} = {h}",
)
IN_PLACE = (
    "self.inplace({h})",
    "{h}.relu_()",
    "torch.relu_({h})",
    "F.relu({h}, inplace=True)",
    "{h} += {g}",
    "{h} -= {c}",
    "{h} *= {c}",
    "{h}.add_({g}, alpha={c})",
    "{h}.mul_(self.scale)",
    "{h}.copy_({g})",
    "torch.add({g}, {h}, alpha={c}, out={h})",
    "{h}.view(-1, 4).mul_({c})",
    "{h}.data.add_({c})",
    "{h}[:] = {g}",
    "{h}.neg_()",
    "x *= {c}",
    "x.relu_()",
)
ARGUMENTS = (
    "{n} = torch.add({h}, {g}, alpha={c})",
    "{n} = torch.sub({h}, {g}, alpha={c})",
    "{n} = {h}.sub({g}, alpha={c})",
    "{n} = torch.rsub({h}, {g}, alpha={c})",
    "{n} = {h} if gate is None else {h} * gate",
    "{n} = self.relu({h}) if flag else -self.relu({h})",
    "{n} = F.linear({h}, self.a.weight, self.b.bias)",
    "{n} = torch.mul({h}, {c}, out=torch.empty_like({h}))",
)
ODD = (
    "{n} = {h} * {h}.sum().item()",
    "{n} = {h} if {h}.sum() > {c} else -{h}",
    "{n} = {h} if {h}.tolist()[0][0] > {c} else -{h}",
    "{n} = {h} + torch.rand_like({h}) * 0.01",
    "{n} = {h} + float({h}.detach().numpy().max())",
    "self.count = self.count + 1; {n} = {h} + (self.count > 20) * {c}",
    "self.memory.add_({c}); {n} = {h} + self.memory",
    "{h}[:, 0] = 0.0",
    "{h}[:, 1:].mul_({c})",
    "{n} = {h}[:, [1, 0, 2, 3]]",
    "{n} = torch.where({h} > 0, {h}, 0.1 * {h})",
    "{n} = {h}.double().float()",
    "{n} = {h} * self.a.weight[0]",
    "{n} = torch.from_numpy({h}.detach().numpy()) * {c}",
    "{h}.resize_(len({h}), 4).mul_({c})",
    "{h}.data = {g}.data",
    "{n} = F.dropout({h}, 0.0)",
    "{n} = {h}.clamp(min={c})",
    "{n} = {h}.abs()",
    "{n} = {h}.half().float()",
    "try:\n            {n} = {h} @ {g}\n        except RuntimeError:\n            {n} = {h} * {c}",
)
CODE = """
class Fuzzed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.a, self.b, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.twin = nn.Linear(4, 4)
        {tie}
        self.norm, self.relu, self.inplace = nn.BatchNorm1d(4), nn.ReLU(), nn.ReLU(inplace=True)
        self.same, self.drop, self.flat = nn.Identity(), nn.Dropout(0.3), nn.Flatten()
        self.scale, self.count = {scale}, 0
        self.register_buffer("shift", torch.tensor({shift}), persistent={persistent})
        self.register_buffer("divisor", torch.tensor([2.0, 0.5, 1.0, 4.0]))
        self.register_buffer("memory", torch.zeros(4))
        {hook}

    def forward(self, x, gate=None, *, flag={flag}):
        {body}
"""
HOOKS = (
    "self.a.register_forward_hook(lambda module, args, out: out * 0.5)",
    "self.relu.register_forward_hook(lambda module, args, out: None)",
    "self.b.register_forward_pre_hook(lambda module, args: (args[0] + 1,))",
)


def write_module(draw: random.Random) -> str:
    """The code of one class ``Fuzzed``; most are of plain and aliasing statements, some have odd ones."""
    odd = draw.random() < 0.25
    names, lines = ["h0"], ["h0 = self.first(x)"]
    for number in range(draw.randint(3, 9)):
        kinds = [PLAIN, PLAIN, ALIAS, ALIAS, IN_PLACE, ARGUMENTS, *([ODD] if odd else [])]
        template = draw.choice(draw.choice(kinds))
        new = f"h{number + 1}"
        h, g = draw.choice(names[-3:]), draw.choice(names)
        constant = draw.choice(("0.5", "-1.0", "2.0", "0.25", "-0.7"))
        lines.append(template.format(n=new, h=h, g=g, c=constant))
        if "{n}" in template:
            names.append(new)
    lines.append(f"return self.last({names[-1]} + {draw.choice(names)})")
    return CODE.format(
        tie="self.twin.weight = self.a.weight" if draw.random() < 0.3 else "pass",
        scale=draw.choice(("2.0", "-0.5", "torch.tensor([1.0, -1.0, 0.5, 2.0])")),
        shift=[round(draw.uniform(-1, 1), 3) for _ in range(WIDTH)],
        persistent=draw.random() < 0.5,
        hook=draw.choice(HOOKS) if draw.random() < 0.05 else "pass",
        flag=draw.random() < 0.5,
        body="\n        ".join(lines),
    )


def build(code: str, seed: int) -> nn.Module:
    """The module of a code, with weights drawn for a seed; a large common bias now and then."""
    space: dict[str, Any] = {"torch": torch, "nn": nn, "F": nn.functional}
    exec(code, space)  # the point of this script
    torch.manual_seed(seed)
    module: nn.Module = space["Fuzzed"]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if seed % 4 == 0:
            module.get_parameter("last.bias").add_(1e4)
    return module.eval()


@torch.no_grad()
def broken(module: nn.Module, image: Tensor, label: int, eps: float, generator: torch.Generator) -> Tensor | None:
    """A float32 point of the ball, cut off at 0 and 1, to which the executed module gives another class, or None."""
    low, high = (image - 0.9999 * eps).clamp(0, 1), (image + 0.9999 * eps).clamp(0, 1)
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


def fuzz(seconds: float, seed: int, *, most: int | None = None) -> dict[str, Any]:
    """Counts of what became of random modules, until the time is up or ``most`` modules were tried."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    counts: dict[str, Any] = dict.fromkeys(("modules", "read", "certified", "falsified", "unknown", "misclassified"), 0)
    reasons: collections.Counter[str] = collections.Counter()
    contradictions: list[str] = []
    begun = time.monotonic()
    while time.monotonic() - begun < seconds and (most is None or counts["modules"] < most):
        code, number = write_module(draw), draw.randrange(2**31)
        images, eps = torch.rand(3, 3, generator=generator), draw.choice((0.01, 0.05, 0.1))
        module = build(code, number)
        try:
            labels = module(images.clone()).argmax(1)
        except (RuntimeError, TypeError, AttributeError):
            continue  # no program, with or without us
        counts["modules"] += 1
        given = images.clone()
        try:
            report = gls_es.certify(build(code, number), given, labels, eps, timeout=1.0, seed=0)
        except gls_es.GlsEsError as error:
            reasons[re.sub(r"'.*?'|h\d+|\(\d+\) ?|[-\d.]+", "", str(error).partition(": ")[2]).strip()[:90]] += 1
            continue
        counts["read"] += 1
        fails = "the caller's images were changed" if not torch.equal(given, images) else None
        for verdict in report.verdicts:
            counts[verdict.verdict] += 1
            if verdict.verdict == "certified":
                point = broken(build(code, number), images[verdict.index], verdict.label, eps, generator)
                fails = fails if point is None else f"point {point.tolist()} of image {verdict.index}, eps {eps}"
        if fails is not None:
            contradictions.append(f"# {fails}, weights of seed {number}{code}")
    refused = counts["modules"] - counts["read"]
    rest: dict[str, Any] = {
        "refused": refused,
        "reasons": dict(reasons.most_common()),
        "contradictions": len(contradictions),
    }
    return {
        "seed": seed,
        **counts,
        **rest,
        "seconds": round(time.monotonic() - begun, 1),
        "examples": contradictions[:5],
    }


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
        sys.stdout.writelines(f"{name}: {value}\n" for name, value in result.items())
    good = result["contradictions"] == 0 and 2 * result["read"] >= result["modules"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
