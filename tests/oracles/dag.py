"""The little language in which every zoo network states its own structure by hand.

A zoo module has ``forward`` (what gls_es traces) and ``dag`` (what the oracles read); ``test_oracles`` checks that both
compute the same function. An affine step is any callable on a batch; the oracles find its matrix by probing it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """One step: kind is "input", "affine", "relu", "add" or "reshape"; inputs are indices of earlier steps."""

    kind: str
    inputs: tuple[int, ...] = ()
    fn: Callable[[Tensor], Tensor] | None = None


@dataclass
class Dag:
    """Steps in the order of execution; step 0 is the input."""

    steps: list[Step] = field(default_factory=lambda: [Step("input")])

    def _push(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def affine(self, fn: Callable[[Tensor], Tensor], x: int) -> int:
        return self._push(Step("affine", (x,), fn))

    def relu(self, x: int) -> int:
        return self._push(Step("relu", (x,)))

    def add(self, *xs: int) -> int:
        return self._push(Step("add", xs))

    def flatten(self, x: int) -> int:
        return self._push(Step("reshape", (x,), lambda t: torch.flatten(t, 1)))

    def chain(self, modules: nn.Sequential, x: int) -> int:
        """The steps of a plain sequence of modules."""
        for module in modules:
            if isinstance(module, nn.ReLU):
                x = self.relu(x)
            elif isinstance(module, nn.Flatten):
                x = self.flatten(x)
            elif not isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d):
                x = self.affine(module, x)
        return x


def run(steps: list[Step], x: Tensor) -> list[Tensor]:
    """Values of every step on a batch x."""
    values: list[Tensor] = []
    for step in steps:
        inputs = [values[i] for i in step.inputs]
        if step.kind == "input":
            values.append(x)
        elif step.kind == "relu":
            values.append(inputs[0].clamp(min=0))
        elif step.kind == "add":
            values.append(sum(inputs[1:], inputs[0]))
        else:
            values.append(step.fn(inputs[0]))
    return values
