"""Random VNN-LIB specifications of tiny networks, decided by gls-es and judged without it.

    python benchmarks/fuzz_vnnlib.py --count 2000 --seed 0 --json

Formulas are nested, n-ary, with terms on both sides, terms that cancel and coefficients of zero. They are kept as trees
of their own, which an evaluator in rationals reads that shares nothing with the reader; the networks' weights are small
multiples of 1/4, so that outputs on a grid of inputs are known exactly. Where "unsat" was said no point of the grid may
fulfil the formula; where "sat" was said, the witness must, and its outputs must be those of the network. It exits with
1 as soon as something is wrong.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import click
import torch
from torch import nn

from gls_es.certification import decide
from gls_es.errors import GlsEsError
from gls_es.formats.vnnlib import parse_vnnlib

Tree = tuple[Any, ...]
"""("X", i), ("Y", k), ("number", text), or an operator followed by trees."""
COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
GRID = 9
NUMBERS = ("0", "0.0", "1", "2", "0.5", "-1", "-0.25", "1.5", "3", "-2", "0.125", "0.1", "0.3", "-0.7")
HUGE = ("1e39", "-1e39", "1e400", "-1e400", "123456789.123456789")


@dataclass(frozen=True)
class Net:
    """Two affine layers with a ReLU between, in rationals."""

    layers: tuple[tuple[tuple[tuple[Fraction, ...], ...], tuple[Fraction, ...]], ...]

    @classmethod
    def drawn(cls, rng: random.Random, sizes: Sequence[int]) -> Net:
        """Weights and biases are multiples of 1/4 of at most 2."""
        layers = []
        for n, m in itertools.pairwise(sizes):
            weight = tuple(tuple(Fraction(rng.randint(-8, 8), 4) for _ in range(n)) for _ in range(m))
            layers.append((weight, tuple(Fraction(rng.randint(-8, 8), 4) for _ in range(m))))
        return cls(tuple(layers))

    def outputs(self, x: Sequence[Fraction]) -> list[Fraction]:
        """The exact outputs."""
        values = list(x)
        for number, (weight, bias) in enumerate(self.layers):
            values = [max(v, Fraction(0)) for v in values] if number else values
            values = [
                sum((w * v for w, v in zip(row, values, strict=True)), b) for row, b in zip(weight, bias, strict=True)
            ]
        return values

    def module(self) -> nn.Sequential:
        """The same network in torch."""
        parts: list[nn.Module] = []
        for weight, bias in self.layers:
            layer = nn.Linear(len(weight[0]), len(weight))
            layer.weight = nn.Parameter(torch.tensor([[float(w) for w in row] for row in weight]))
            layer.bias = nn.Parameter(torch.tensor([float(b) for b in bias]))
            parts += [layer, nn.ReLU()]
        return nn.Sequential(*parts[:-1])


class Writer:
    """Draws formulas of one version of the language and writes them.

    Args:
        rng: random numbers.
        inputs: how many inputs.
        outputs: how many outputs.
        version: 1 or 2.
    """

    def __init__(self, rng: random.Random, inputs: int, outputs: int, version: int) -> None:
        self.rng, self.inputs, self.outputs, self.version = rng, inputs, outputs, version

    def text(self, tree: Tree) -> str:
        """A tree in the version's spelling."""
        head = tree[0]
        if head in ("X", "Y"):
            return f"{head}_{tree[1]}" if self.version == 1 else f"{head}[0,{tree[1]}]"
        if head == "number":
            return self._number(tree[1])
        gap = self.rng.choice((" ", "  ", "\n"))
        return f"({head} {gap.join(self.text(part) for part in tree[1:])})"

    def _number(self, text: str) -> str:
        return text if self.version == 1 or "." in text or "e" in text else f"{text}.0"

    def number(self) -> Tree:
        """A number."""
        return ("number", self.rng.choice(HUGE if self.rng.random() < 0.02 else NUMBERS))

    def term(self, depth: int, letter: str) -> Tree:
        """A linear term of outputs or inputs."""
        kind = self.rng.randrange(6 if depth else 2)
        if kind == 0:
            return self.number()
        if kind == 1:
            return (letter, self.rng.randrange(self.outputs if letter == "Y" else self.inputs))
        if kind in (2, 3):
            sign = self.rng.choice("+-")
            count = 2 if sign == "-" and self.version == 1 else self.rng.randint(1, 4)
            return (sign, *(self.term(depth - 1, letter) for _ in range(count)))
        if kind == 4:
            parts = [self.number(), self.term(depth - 1, letter)]
            self.rng.shuffle(parts)
            return ("*", *parts)
        return ("-", self.term(depth - 1, letter))

    def nothing(self) -> Tree:
        """A term that is zero, of an input or of an output."""
        other = self.term(1, self.rng.choice("XY"))
        return self.rng.choice([("*", ("number", "0"), other), ("-", other, other), ("+", other, ("-", other))])

    def atom(self) -> Tree:
        """An inequality: of outputs, with zeros of inputs in it, or of one input; in version 2 of anything."""
        chance = self.rng.random()
        sign = self.rng.choice(("<=", ">=") if self.version == 1 else tuple(COMPARE))
        if chance < 0.2:
            left: Tree = ("X", self.rng.randrange(self.inputs))
            right = ("number", self.rng.choice(("0.25", "0.5", "-0.5", "0.1")))
            return (sign, left, right) if self.rng.random() < 0.5 else (sign, right, left)
        sides = [self.term(2, "Y"), self.term(1, "Y")]
        if self.version == 2 and chance < 0.4:
            sides[1] = self.term(1, "X")
        if self.rng.random() < 0.5:
            at = self.rng.randrange(2)
            parts = [sides[at], self.nothing()]
            self.rng.shuffle(parts)
            sides[at] = ("+", *parts)
        self.rng.shuffle(sides)
        return (sign, *sides)

    def formula(self, depth: int) -> Tree:
        """A nested formula."""
        if depth == 0 or self.rng.random() < 0.3:
            return self.atom()
        count = self.rng.randint(1, 3)
        return (self.rng.choice(("and", "or")), *(self.formula(depth - 1) for _ in range(count)))

    def assertions(self) -> list[Tree]:
        """Bounds of every input in [-1, 1], and one formula or two."""
        found: list[Tree] = []
        for index in range(self.inputs):
            low, high = sorted(self.rng.sample(("-1", "-0.5", "0", "0.5", "1"), 2), key=Fraction)
            found += [(">=", ("X", index), ("number", low)), ("<=", ("X", index), ("number", high))]
        return found + [self.formula(self.rng.randint(0, 3)) for _ in range(self.rng.randint(1, 2))]

    def specification(self, assertions: Sequence[Tree]) -> str:
        """The whole text."""
        if self.version == 1:
            lines = [f"(declare-const X_{i} Real)" for i in range(self.inputs)]
            lines += [f"(declare-const Y_{k} Real)" for k in range(self.outputs)]
        else:
            kind = self.rng.choice(("float32", "real"))
            sides = f"(declare-input X {kind} [1,{self.inputs}]) (declare-output Y {kind} [1,{self.outputs}])"
            lines = ["(vnnlib-version <2.0>)", f"(declare-network N {sides})"]
        return "\n".join([*lines, *(f"(assert {self.text(tree)})" for tree in assertions)])


def holds(tree: Tree, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
    """Whether a formula is true."""
    head, *parts = tree
    if head == "and":
        return all(holds(part, x, y) for part in parts)
    if head == "or":
        return any(holds(part, x, y) for part in parts)
    return COMPARE[head](value(parts[0], x, y), value(parts[1], x, y))


def value(tree: Tree, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
    """What a term is."""
    head, *parts = tree
    if head in ("X", "Y"):
        return (x if head == "X" else y)[parts[0]]
    if head == "number":
        return Fraction(parts[0])
    values = [value(part, x, y) for part in parts]
    if head == "*":
        product = Fraction(1)
        for factor in values:
            product *= factor
        return product
    if head == "+":
        return sum(values, Fraction(0))
    return -values[0] if len(values) == 1 else values[0] - sum(values[1:], Fraction(0))


def judged(rng: random.Random, version: int) -> tuple[str, str]:
    """One specification: what was said of it, and what is wrong with that ("" if nothing is)."""
    inputs, outputs = rng.randint(1, 2), rng.randint(1, 3)
    net = Net.drawn(rng, (inputs, rng.randint(1, 4), outputs))
    writer = Writer(rng, inputs, outputs, version)
    assertions = writer.assertions()
    text = writer.specification(assertions)
    try:
        decision = decide(net.module(), (inputs,), parse_vnnlib(text), timeout=5.0)
    except GlsEsError as error:
        return f"refused: {str(error)[:90]}", ""
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {error} of\n{text}"
    formula: Tree = ("and", *assertions)
    if decision.result == "sat":
        assert decision.inputs is not None
        assert decision.outputs is not None
        said = [Fraction(value) for value in decision.outputs]
        exact = net.outputs([Fraction(float(torch.tensor(float(v)))) for v in decision.inputs])
        near = all(abs(a - b) <= Fraction(1, 10**4) for a, b in zip(said, exact, strict=True))
        good = near and holds(formula, decision.inputs, said)
        return "sat", "" if good else f"the witness {decision.inputs}, {decision.outputs} is none of\n{text}"
    if decision.result == "unsat":
        steps = [Fraction(2 * i - GRID + 1, GRID - 1) for i in range(GRID)]
        for x in itertools.product(steps, repeat=inputs):
            if holds(formula, x, net.outputs(x)):
                return "unsat", f"{x} fulfils\n{text}"
    return decision.result, ""


def fuzz(*, count: int, seconds: float, seed: int, versions: Sequence[int]) -> dict[str, Any]:
    """Judge specifications until there are enough of them or the time is over.

    Args:
        count: how many at most.
        seconds: how long at most.
        seed: of everything random.
        versions: of the language, in turns.
    """
    begun = time.monotonic()
    said: Counter[str] = Counter()
    wrong: list[str] = []
    done = 0
    while done < count and time.monotonic() - begun < seconds:
        result, complaint = judged(random.Random(f"{seed}/{done}"), versions[done % len(versions)])
        said[result] += 1
        wrong += [f"specification {done} of seed {seed}: {complaint}"] if complaint else []
        done += 1
    results = {name: said.pop(name, 0) for name in ("sat", "unsat", "unknown", "timeout")}
    spent = time.monotonic() - begun
    return {"specifications": done, **results, "refused": dict(said), "wrong": wrong, "seed": seed, "seconds": spent}


@click.command()
@click.option("--count", default=2000, show_default=True, type=click.IntRange(min=1), help="Specifications at most.")
@click.option("--seconds", default=3600.0, show_default=True, help="Time at most.")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@click.option("--version", "versions", multiple=True, type=click.IntRange(1, 2), help="By default both, in turns.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def main(count: int, seconds: float, seed: int, versions: tuple[int, ...], as_json: bool) -> None:
    """Judge random specifications."""
    torch.set_num_threads(1)
    found = fuzz(count=count, seconds=seconds, seed=seed, versions=versions or (1, 2))
    if as_json:
        click.echo(json.dumps(found))
    else:
        for name, number in found.items():
            click.echo(f"{name}: {number}")
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()
