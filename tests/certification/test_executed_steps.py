"""Errors of execution against other executors, step by step: every value they may compute lies within the bounds.

Random networks of BatchNorm, pools, residual sums and chains of constants, with numbers from 2^-149 to 2^127. The
executors here round after every step and differ in what a certificate leaves open: the order of sums, whether a
BatchNorm becomes one factor and one shift, whether products and sums are fused, whether small numbers become zero. One
of them does not round at all.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gls_es.bounds import method_named
from gls_es.certification.rounding import outward_ball, sound_margins, sound_query
from gls_es.errors import UnsupportedNetworkError
from gls_es.network import Network

NETS = 90
TINY = float(np.finfo(np.float32).tiny)


@dataclass
class Machine:
    """Arithmetic that rounds to float32 after every step; ``draw`` picks what executors may choose."""

    draw: random.Random
    fused: bool = False
    flush: bool = False

    def number(self, value: Any) -> Any:
        rounded = np.float32(value)
        return np.float32(0) if self.flush and abs(rounded) < TINY else rounded

    def times(self, a: Any, b: Any) -> Any:
        return self.number(self.number(a) * self.number(b))

    def plus(self, a: Any, b: Any) -> Any:
        return self.number(self.number(a) + self.number(b))

    def over(self, a: Any, b: Any) -> Any:
        return self.number(self.number(a) / self.number(b))

    def root(self, a: Any) -> Any:
        return self.number(np.sqrt(self.number(a)))

    def times_plus(self, a: Any, b: Any, c: Any) -> Any:
        if not self.fused:
            return self.plus(self.times(a, b), c)
        a, b, c = (np.float64(self.number(v)) for v in (a, b, c))
        return self.number(a * b + c)  # the product is exact in float64


class Exact(Machine):
    """Real arithmetic."""

    def number(self, value: Any) -> Any:
        return value if isinstance(value, Fraction) else Fraction(float(value))

    def root(self, a: Any) -> Any:
        root = Fraction(isqrt(a.numerator), isqrt(a.denominator))
        assert root * root == a
        return root


def _dot(m: Machine, terms: list[tuple[Any, Any]], bias: Any) -> Any:
    """A sum of products in a drawn order, in two accumulators, with the bias first or last."""
    terms = m.draw.sample(terms, len(terms))
    early, cut = m.draw.random() < 0.5, m.draw.randrange(len(terms) + 1)
    sums = [bias if early else 0, 0]
    for place, (a, b) in enumerate(terms):
        sums[place >= cut] = m.times_plus(a, b, sums[place >= cut])
    total = m.plus(*sums)
    return total if early else m.plus(total, bias)


def _normalised(m: Machine, z: Any, layer: nn.BatchNorm2d, channel: int) -> Any:
    """With one factor and one shift, as on a CPU, or from left to right in one of three orders."""
    numbers = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    mean, var, gamma, beta = (m.number(v[channel].item()) for v in numbers if v is not None)
    inverse = m.over(1, m.root(m.plus(var, layer.eps)))
    alpha, how = m.times(inverse, gamma), m.draw.randrange(4)
    if how == 0:
        return m.times_plus(z, alpha, m.times_plus(-mean, alpha, beta))
    centred = m.plus(z, -mean)
    if how == 1:
        return m.times_plus(centred, alpha, beta)
    first, second = (inverse, gamma) if how == 2 else (gamma, inverse)
    return m.times_plus(m.times(centred, first), second, beta)


class Chain(nn.Module):
    """Steps on (2, 2, 2) maps, made one after the other so that the numbers go where they are wanted."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        self.layers = nn.ModuleList()
        self.steps: list[tuple[str, Any]] = []
        self.eval()
        self.x = torch.tensor([self.draw.random() for _ in range(8)]).reshape(1, 2, 2, 2)
        for _ in range(self.draw.randint(2, 5)):
            self._append(self.draw.choice(["conv", "norm", "norm", "mul", "div", "add", "cancel", "relu", "skip"]))
        if self.draw.random() < 0.5:
            self._append("mul", wanted=self.draw.choice([1.0, 2.0**126, 2.0**-140]))
            self._append(self.draw.choice(["pool", "mean"]))

    def forward(self, x: Tensor) -> Tensor:
        before = x
        for kind, what in self.steps:
            after = self._step(kind, what, x, before)
            before, x = x, after
        return x.flatten(1)

    def _step(self, kind: str, what: Any, x: Tensor, before: Tensor) -> Tensor:
        if kind in ("conv", "norm"):
            return self.layers[what](x)
        if kind in ("mul", "div", "add"):
            return x * what if kind == "mul" else x / what if kind == "div" else x + what
        if kind == "skip":
            return x + before
        return {"relu": torch.relu, "pool": lambda z: F.avg_pool2d(z, 2), "mean": lambda z: z.mean((2, 3))}[kind](x)

    def _append(self, kind: str, wanted: float | None = None) -> None:
        """One more step whose result is about 2^wanted where the numbers are about 2^now."""
        with torch.no_grad():
            now = float(self.double()(self.x.double()).abs().max())
        self.float()
        now = min(max(now, 2.0**-140), 2.0**126)
        far = self.draw.choice([self.draw.randint(-140, -100), self.draw.randint(100, 127)])
        wanted = wanted or 2.0 ** self.draw.choice([self.draw.randint(-10, 10), far])
        ratio = min(max(self.draw.uniform(0.1, 2) * wanted / now, 2.0**-126), 2.0**126) * self.draw.choice([-1, 1])
        if kind == "conv":
            kind, what = "conv", self._add(nn.Conv2d(2, 2, 1))
            self._fill(self.layers[-1].weight, abs(ratio))
            self._fill(self.layers[-1].bias, abs(ratio) * now)
        elif kind == "norm":
            root = 2.0 ** min(max(round(np.log2(now)), -50), 60)
            what = self._add(nn.BatchNorm2d(2, eps=root**2 / 4))  # PyTorch 2.10 takes positive ones only
            self.layers[-1].running_var.copy_(torch.tensor([root**2, (1.25 * root) ** 2]) - root**2 / 4)
            self._fill(self.layers[-1].running_mean, now)
            self._fill(self.layers[-1].weight, min(abs(ratio) * root, 2.0**120))
            self._fill(self.layers[-1].bias, self.draw.choice([0.0, min(wanted, 2.0**120)]))
        else:
            number = self.draw.uniform(-2, 2) * now
            what = {"mul": ratio, "div": 1 / ratio, "add": number, "cancel": number}.get(kind)
        if kind == "cancel":  # adds and subtracts nearly the same
            self.steps.append(("add", 300.0 * number))
            kind, what = "add", -299.5 * number
        self.steps.append((kind, what))

    def _add(self, layer: nn.Module) -> int:
        self.layers.append(layer.eval())
        return len(self.layers) - 1

    def _fill(self, value: Tensor, size: float) -> None:
        with torch.no_grad():
            value.copy_(
                torch.tensor([size * self.draw.uniform(-1, 1) for _ in range(value.numel())]).reshape(value.shape)
            )


def _run(net: Chain, m: Machine, image: Tensor) -> np.ndarray:
    """The flat output of a (2, 2, 2) image on a machine."""
    x = np.array([m.number(v) for v in image.flatten().tolist()], dtype=object).reshape(2, 2, 2)
    before = x
    for kind, what in net.steps:
        after = _stepped(net, m, kind, what, x, before)
        before, x = x, after
    return x.flatten()


def _stepped(net: Chain, m: Machine, kind: str, what: Any, x: np.ndarray, before: np.ndarray) -> np.ndarray:
    if kind == "conv":
        weight, bias = (v.tolist() for v in (net.layers[what].weight.flatten(1), net.layers[what].bias))
        cells = x.reshape(2, -1)
        found = [
            [_dot(m, list(zip(w, cells[:, i], strict=True)), b) for i in range(4)]
            for w, b in zip(weight, bias, strict=True)
        ]
        return np.array(found, dtype=object).reshape(2, 2, 2)
    if kind == "norm":
        found = [[_normalised(m, z, net.layers[what], c) for z in x[c].flatten()] for c in range(2)]
        return np.array(found, dtype=object).reshape(2, 2, 2)
    if kind in ("pool", "mean"):
        return np.array([m.over(_dot(m, [(1, z) for z in c.flatten()], 0), 4) for c in x], dtype=object)
    if kind == "skip":
        return np.array(
            [m.plus(a, b) for a, b in zip(x.flatten(), before.flatten(), strict=True)], dtype=object
        ).reshape(x.shape)
    one = {
        "relu": lambda z: m.number(max(z, 0)),
        "mul": lambda z: m.times(z, what),
        "div": lambda z: m.over(z, what),
        "add": lambda z: m.plus(z, what),
    }[kind]
    return np.array([one(z) for z in x.flatten()], dtype=object).reshape(x.shape)


def _made(seed: int) -> tuple[Chain, Network | None]:
    """A chain and its network in float64, which holds the same numbers; None if that loses too much to be compared."""
    chain = Chain(seed)
    try:
        return chain, Network(copy.deepcopy(chain).double(), (2, 2, 2))
    except UnsupportedNetworkError:
        return chain, None


def _bounds(net: Network, image: Tensor, execution: str) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of the outputs at one point, (K,) each."""
    query = sound_query(net, *outward_ball(image, 0.0), execution=execution)
    method_named("ibp").preactivations(query)
    centre, radius = (v[0, 0] for v in query.interval(net.graph.output))
    return centre - radius, centre + radius


def _machines(draw: random.Random) -> list[Machine]:
    return [Machine(draw, fused, flush) for fused in (False, True) for flush in (False, True) for _ in range(4)]


@np.errstate(all="ignore")
def test_whatever_an_executor_computes_lies_within_the_bounds() -> None:
    finite, closest = 0, 0.0
    for seed in range(NETS):
        chain, net = _made(seed)
        if net is None:
            continue
        lower, upper = _bounds(net, chain.x, "float32")
        margins = sound_margins(net, *outward_ball(chain.x, 0.0), torch.tensor([0]), "crown")[0]
        with torch.no_grad():
            runs = [chain(chain.x)[0].double()]
        runs += [torch.tensor(_run(chain, m, chain.x).astype(float)) for m in _machines(random.Random(seed))]
        known = lower.isfinite() & upper.isfinite()
        finite += bool(known.all())
        for outputs in runs:
            assert bool(((lower <= outputs) & (outputs <= upper))[known].all()), (seed, chain.steps)
            assert bool((margins <= outputs[0] - outputs[1:])[margins.isfinite()].all()), (seed, chain.steps)
            used = ((outputs - (lower + upper) / 2).abs() / ((upper - lower) / 2))[known]
            closest = max(closest, float(used.max()) if len(used) else 0.0)
    assert finite > NETS / 2
    assert closest > 0.2  # the errors are not far larger than what may happen


def test_real_numbers_lie_within_the_bounds() -> None:
    for seed in range(NETS):
        chain, net = _made(seed)
        if net is None:
            continue
        lower, upper = (v.tolist() for v in _bounds(net, chain.x, "real"))
        for low, value, up in zip(lower, _run(chain, Exact(random.Random(0)), chain.x), upper, strict=True):
            assert np.isfinite([low, up]).all(), (seed, chain.steps)
            assert low <= value <= up, (seed, chain.steps)
