"""A property whose cases are single rows, as one image for ``certify``: its stages then decide about a whole box.

The box is the image of the unit cube under z -> low + width z, a layer in front of the network, and the unit cube is
the L∞ ball of radius 1/2 around its centre. The cube's image contains the box in real arithmetic, and the rounding of
that layer is covered as that of any other, so a certificate holds for every point of the box. A counterexample is only
a hint: the point it stands for has to be executed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gls_es.basics.property import Boundary
from gls_es.certification.certifier import certify
from gls_es.certification.violation import Violations, Witness
from gls_es.network import Network

STAGES = ("alpha", "bab")
"""What is left to try where the relaxations and an attack have not decided."""
CURVED_STAGES = ("alpha", "alpha-shared", "bab")
"""The same where some activations are no ReLUs: their inputs' ranges count for more."""


class FromUnitCube(nn.Module):
    """``low + width z``.

    Args:
        low: (*input_shape).
        width: the same shape, >= 0.
    """

    low: Tensor
    width: Tensor

    def __init__(self, low: Tensor, width: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("width", width)

    def forward(self, z: Tensor) -> Tensor:
        """(B, *input_shape), the same."""
        return z * self.width + self.low

    @classmethod
    def onto(cls, lower: Tensor, upper: Tensor) -> FromUnitCube:
        """The float32 layer whose image contains the float64 box [lower, upper]."""
        low = lower.float()
        low = torch.where(low.double() > lower, torch.nextafter(low, torch.full_like(low, -math.inf)), low)
        gap = torch.nextafter(upper - low.double(), torch.full_like(upper, math.inf))
        width = gap.float()
        wider = torch.nextafter(width, torch.full_like(width, math.inf))
        return cls(low, torch.where(width.double() < gap, wider, width))


def certify_box(
    violations: Violations, box: Boundary, *, execution: str, timeout: float | None
) -> tuple[bool, Witness | None, str | None]:
    """Whether no row holds anywhere in a box, a violation if one was met, and the stage that decided.

    Args:
        violations: of a group whose cases have one row each.
        box: the box.
        execution: the arithmetic that the bounds cover.
        timeout: seconds for branch and bound, > 0; None for the default of ``certify``.
    """
    network = violations.group.network
    lower, upper = violations.group.shaped([box.outward()])
    entry = FromUnitCube.onto(lower[0], upper[0])
    like = next((p for p in network.module().parameters()), torch.zeros(()))
    whole = Network(nn.Sequential(entry.to(like.dtype), network.module()), network.input_shape)
    centre = torch.full((1, *network.input_shape), 0.5)
    limit = None if timeout is None else max(timeout, 1e-3)
    stages = STAGES if network.graph.only_relus else CURVED_STAGES
    (verdict,) = certify(whole, centre, [0], 0.5, stages=stages, execution=execution, timeout=limit).verdicts
    if verdict.verdict == "certified":
        return True, None, verdict.stage
    hint = verdict.counterexample if verdict.verdict == "falsified" else centre[0]
    if hint is None or verdict.verdict == "unknown":
        return False, None, None
    ends = violations.group.shaped([box.points()])
    point = torch.clamp(entry.float()(hint[None]), *ends)[0]
    witness = violations.confirmed(point, box)
    return False, witness, None if witness is None else verdict.stage
