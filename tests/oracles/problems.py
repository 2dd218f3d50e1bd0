"""What the tests evaluate: a case with a population, boxes and labels; references and sampled points for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles import dense
from tests.oracles.dag import Dag, run
from tests.oracles.nets import Case, boxes, population


@dataclass(frozen=True, eq=False)
class Problem:
    """P members, B boxes. Everything is float32 data, so that float32 and float64 runs get the very same problem."""

    case: Case
    module: nn.Module
    params: Tensor
    lower: Tensor
    upper: Tensor
    labels: Tensor

    @cache  # noqa: B019  (problems live as long as the test run)
    def nodes(self, p: int) -> list[dense.Node]:
        return dense.dense_nodes(self.module, self.params[p], self.case.input_shape)


@cache
def problem(case: Case, members: int = 2, images: int = 2) -> Problem:
    """The problem of a case; member 0 holds the module's own weights."""
    module = case.build()
    lower, upper = boxes(case, images)
    with torch.no_grad():
        classes = module(lower[:1]).shape[1]
    labels = torch.tensor([(2 * i + 1) % classes for i in range(images)])
    sigma = 0.02 if case.trained else 0.05
    return Problem(case, module, population(module, members, sigma=sigma), lower, upper, labels)


@cache
def references(method: str, case: Case, members: int = 2, images: int = 2) -> list[list[dense.Reference]]:
    """References [member][image]; computed once for all tests."""
    task = problem(case, members, images)
    return [
        [
            dense.reference(method, task.nodes(p), task.lower[i], task.upper[i], int(task.labels[i]))
            for i in range(images)
        ]
        for p in range(members)
    ]


def stacked(method: str, task: Problem) -> tuple[Tensor, list[tuple[Tensor, Tensor]], float]:
    """Reference margins (P, B, K-1), pre-activation bounds [(P, B, N)] and the smallest distance to a slope's flip."""
    table = references(method, task.case, len(task.params), len(task.labels))
    margins = torch.tensor(np.array([[r.margins for r in row] for row in table]))
    layers = range(len(table[0][0].preactivations))
    pre = [
        tuple(torch.tensor(np.array([[r.preactivations[n][side] for r in row] for row in table])) for side in (0, 1))
        for n in layers
    ]
    return margins, pre, min(r.tie for row in table for r in row)


def margins_of(logits: Tensor, label: int) -> Tensor:
    """(N, K-1): f_y - f_j, j ascending."""
    others = [j for j in range(logits.shape[-1]) if j != label]
    return logits[..., label : label + 1] - logits[..., others]


@cache
def points(task: Problem, p: int, i: int, count: int = 200) -> Tensor:
    """Float64 points of box i: uniform ones, corners, and corners along the signs of each margin's gradient."""
    generator = torch.Generator().manual_seed(31 * p + i)
    lower, upper = task.lower[i].double(), task.upper[i].double()
    shape = (count, *lower.shape)
    uniform = lower + (upper - lower) * torch.rand(shape, generator=generator, dtype=torch.float64)
    uniform = uniform.clamp(lower, upper)
    flat = lower.numel()
    if flat <= 7:
        bits = torch.arange(2**flat)[:, None] >> torch.arange(flat) & 1
        corner_bits = bits.reshape(-1, *lower.shape).bool()
    else:
        corner_bits = torch.rand(shape, generator=generator) < 0.5
    corners = torch.where(corner_bits, upper, lower)
    module = dense.member(task.module, task.params[p])
    starts = torch.cat([(lower + upper)[None] / 2, uniform[:4]]).requires_grad_()
    margins = margins_of(module(starts), int(task.labels[i]))
    signed = []
    for column in margins.T:
        (gradient,) = torch.autograd.grad(column.sum(), starts, retain_graph=True)
        signed.append(torch.where(gradient > 0, lower, upper))
    return torch.cat([(lower + upper)[None] / 2, lower[None], upper[None], uniform, corners, *signed]).detach()


@cache
def sampled(task: Problem, p: int, i: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Smallest margins (K-1,) attained on the points of box i, and smallest and largest pre-activations."""
    logits, layers = attained(task, p, points(task, p, i))
    margins = margins_of(logits, int(task.labels[i]))
    return margins.amin(0), [(z.amin(0), z.amax(0)) for z in layers]


def attained(task: Problem, p: int, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (N, K) and flattened pre-activations [(N, n)] of a member on float64 points, by the hand-written graph."""
    module = dense.member(task.module, task.params[p])
    dag = Dag()
    module.dag(dag)
    with torch.no_grad():
        values = run(dag.steps, x)
        logits = module(x)
    return logits, [values[s.inputs[0]].flatten(1) for s in dag.steps if s.kind == "relu"]
