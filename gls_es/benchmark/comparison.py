"""One relaxation over a population, against loops over its members: what is called, and what is measured of it."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gls_es import bounds, kernels
from gls_es.basics.threads import over_members, whole_operations
from gls_es.benchmark.measure import Cost, Timing, Work, cost, interleaved, quickest, threads
from gls_es.benchmark.peer import PeerLoop, peer_loops
from gls_es.benchmark.plain import PlainLoop
from gls_es.benchmark.plain_net import PlainNet
from gls_es.benchmark.subject import Subject
from gls_es.errors import ConfigError
from gls_es.fitness import Minibatch, Stage, image_losses, mean_gradient

LOOPS = ("plain", "auto_lirpa")
"""The loops over members that there are."""

CHUNKS = tuple(n << 20 for n in (1, 4, 16, 64, 256))
"""Chunk sizes among which the plain loop takes the quickest."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        threads: n, for threads inside operations and for threads that share the work; other ratios are of one thread.
        repeats: timed rounds.
        backward: also time losses and gradients, as RGS needs them.
        gradient_members: for how many members (RGS uses few).
        loops: which of :data:`LOOPS` are timed as well.
        matmul: rows of the matrices whose product is the peak; None for what suits the device.
        keep_freed: let the process keep the memory it frees, as training does; once set, it stays so.
        memory_budget: bytes that a gradient's graph may take, and sixteen coefficient tensors.
    """

    threads: int = 1
    repeats: int = 5
    backward: bool = False
    gradient_members: int = 8
    loops: tuple[str, ...] = LOOPS
    matmul: int | None = None
    keep_freed: bool = True
    memory_budget: int = 1 << 30

    def __post_init__(self) -> None:
        for name in ("threads", "repeats", "gradient_members"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")


class Comparison:
    """One relaxation on one subject.

    Args:
        subject: the network, boxes and population.
        method: the relaxation's name.
        sizes: what to measure.
        peak: floating-point operations per second of matrix products, with one thread.
    """

    def __init__(self, subject: Subject, method: str, sizes: Sizes, peak: float) -> None:
        self.subject = subject
        self.method = method
        self.sizes = sizes
        self.peak = peak
        self.device = subject.params.device
        default = bounds.Plan.default(self.device.type)
        self.plan = bounds.Plan(min(default.bytes, sizes.memory_budget // 16), default.members)

    def table(self) -> dict[str, Any]:
        """Everything that is measured of the relaxation."""
        found = {"forward": self._forward()}
        several = self.sizes.threads > 1 and self.device.type == "cpu"
        if several:
            params = self.subject.params
            with torch.no_grad():
                found["forward"]["threads"] = self._threads(
                    lambda: self.losses(params), lambda: over_members(self.losses, params)
                )
        if self.sizes.backward and bounds.METHODS[self.method].gradient:
            found["backward"] = self._backward()
            if several:
                few = self.subject.first_members(self.sizes.gradient_members)
                found["backward"]["threads"] = self._threads(*[lambda: self.gradient(few)] * 2)
        return found

    # -- what is called -----------------------------------------------------------------------------------------------

    def losses(self, params: Tensor) -> Tensor:
        """The fitness of a generation: boxes, margins, mean robust loss of every member."""
        return image_losses(self.subject.net, self._minibatch(), params, plan=self.plan).mean(1)

    def gradient(self, subject: Subject) -> tuple[Tensor, Tensor]:
        """Losses and mean gradient, as RGS gets them."""
        batch, budget = self._minibatch(), self.sizes.memory_budget
        return mean_gradient(subject.net, batch, subject.params, budget=budget, plan=self.plan)

    def _minibatch(self) -> Minibatch:
        lower, upper = self.subject.lower, self.subject.upper
        box = bounds.entry_box(self.subject.net, bounds.Box.between(lower, upper))
        return Minibatch(self.subject.images, self.subject.labels, box, Stage(self.subject.eps, 0.0, self.method))

    def _plain(self, subject: Subject, call: Callable[[PlainLoop, Subject], Any]) -> tuple[PlainLoop | None, str]:
        """The plain loop with its quickest chunks, or the reason why there is none."""
        if "plain" not in self.sizes.loops:
            return None, "not asked for"
        try:
            net = PlainNet(subject.net)
            loops = {size: PlainLoop(net, self.method, size) for size in CHUNKS}
        except ConfigError as error:
            return None, str(error)
        if self.method == "ibp":
            return loops[CHUNKS[0]], ""
        one = subject.first_members(1)
        trials = {size: _calling(call, loop, one) for size, loop in loops.items()}
        return loops[quickest(trials, device=self.device)], ""

    def _peers(self) -> tuple[dict[str, PeerLoop], str | None]:
        if "auto_lirpa" not in self.sizes.loops:
            return {}, "not asked for"
        return peer_loops(self.subject, self.method)

    # -- what is measured ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _forward(self) -> dict[str, Any]:
        subject = self.subject
        works: dict[str, Work] = {"ours": lambda: self.losses(subject.params)}
        with threads(1):
            loop, missing = self._plain(subject, _plain_losses)
            peers, absent = self._peers()
            spent = self._spent(works["ours"], lambda twin: twin.losses(subject.params))
            if loop is not None:
                works["plain"] = _calling(_plain_losses, loop, subject)
            works |= {name: partial(peer.margins, subject.params) for name, peer in peers.items()}
            timings = interleaved(works, self.sizes.repeats, device=self.device)
            first = subject.first_members(1)
            own = self._own_margins(first)
            found = self._rates(timings["ours"], spent, subject.size)
            found["plain"] = {"missing": missing}
            if loop is not None:
                margins = loop.margins(first.lower, first.upper, first.labels, first.params)
                once = cost(_calling(_plain_losses, loop, first), device=self.device)
                found["plain"] = _against(timings["plain"], timings["ours"], _difference(margins, own))
                found["plain"] |= {"chunk_bytes": loop.chunk_bytes, "gflop": once.flops * len(subject.params) / 1e9}
                found["plain"]["peak_bytes"] = once.peak_bytes
                useful = once.flops * len(subject.params) / timings["ours"].median
                found["useful_peak_fraction"] = useful / self.peak
            found["auto_lirpa"] = {"missing": absent or "only its default is compared"}
            for name, peer in peers.items():
                once = cost(partial(peer.margins, first.params), device=self.device)
                found[name] = _against(timings[name], timings["ours"], _difference(peer.margins(first.params), own))
                found[name] |= {"peak_bytes": once.peak_bytes, **peer.about}
        return found

    def _threads(self, work: Work, sharing: Work) -> dict[str, Any]:
        """The same work by one thread, by n threads inside each operation, and by n threads that share the work."""
        count = self.sizes.threads

        def one() -> object:
            with threads(1):
                return work()

        def intra_op() -> object:
            with threads(1), whole_operations(), threads(count):  # one worker, whatever torch's own threads are
                return work()

        def shared() -> object:
            with threads(count), whole_operations():
                return sharing()

        works = {"one": one, "intra_op": intra_op, "shared": shared}
        timings = interleaved(works, self.sizes.repeats, device=self.device)
        table: dict[str, Any] = {f"{name}_seconds": timing.median for name, timing in timings.items()}
        for name in ("intra_op", "shared"):
            table[f"{name}_speedup"] = _ratio(timings["one"], timings[name])
        return table

    def _backward(self) -> dict[str, Any]:
        subject = self.subject.first_members(self.sizes.gradient_members)
        works: dict[str, Work] = {"ours": lambda: self.gradient(subject)}
        with threads(1):
            loop, missing = self._plain(subject, _plain_gradient)
            spent = self._spent(works["ours"], lambda twin: twin.gradient(subject))
            if loop is not None:
                works["plain"] = _calling(_plain_gradient, loop, subject)
            timings = interleaved(works, self.sizes.repeats, device=self.device)
            found = self._rates(timings["ours"], spent, subject.size) | {"members": len(subject.params)}
            found["plain"] = {"missing": missing}
            if loop is not None:
                first = subject.first_members(1)
                difference = _difference(_plain_gradient(loop, first)[1], self.gradient(first)[1])
                found["plain"] = _against(timings["plain"], timings["ours"], difference)
                found["plain"]["chunk_bytes"] = loop.chunk_bytes
                found["plain"]["peak_bytes"] = cost(
                    _calling(_plain_gradient, loop, first), device=self.device
                ).peak_bytes
        return found

    def _spent(self, work: Work, of: Callable[[Comparison], object]) -> Cost:
        """The memory of ``work``, and its PyTorch twin's operations, as those of compiled code are not counted."""
        twin = copy.copy(self)
        twin.plan = replace(self.plan, direct=False)
        with kernels.plain():
            counted = cost(lambda: of(twin), device=self.device)
        return replace(counted, peak_bytes=cost(work, device=self.device).peak_bytes)

    def _own_margins(self, subject: Subject) -> Tensor:
        return bounds.margins(
            subject.net, subject.lower, subject.upper, subject.labels, self.method, subject.params, plan=self.plan
        )

    def _rates(self, timing: Timing, spent: Cost, size: int) -> dict[str, Any]:
        rate = spent.flops / timing.median
        return timing.to_json() | {
            "member_images_per_second": size / timing.median,
            "gflop": spent.flops / 1e9,
            "gflops": rate / 1e9,
            "peak_fraction": rate / self.peak,
            "peak_bytes": spent.peak_bytes,
        }


def _plain_losses(loop: PlainLoop, subject: Subject) -> Tensor:
    return loop.losses(subject.lower, subject.upper, subject.labels, subject.params)


def _plain_gradient(loop: PlainLoop, subject: Subject) -> tuple[Tensor, Tensor]:
    return loop.mean_gradient(subject.lower, subject.upper, subject.labels, subject.params)


def _calling(call: Callable[[PlainLoop, Subject], Any], loop: PlainLoop, subject: Subject) -> Work:
    return lambda: call(loop, subject)


def _against(other: Timing, ours: Timing, difference: float) -> dict[str, Any]:
    cpu = statistics.median(s / f for s, f in zip(other.cpu, ours.cpu, strict=True))
    return other.to_json() | {"ratio": _ratio(other, ours), "cpu_ratio": cpu, "difference": difference}


def _ratio(slow: Timing, fast: Timing) -> float:
    """How many times faster, the median over the rounds: the two ran one after the other in each."""
    return statistics.median(s / f for s, f in zip(slow.wall, fast.wall, strict=True))


def _difference(found: Tensor, own: Tensor) -> float:
    """The largest difference relative to the largest number: that the same thing was computed."""
    scale = own.abs().max().clamp_min(1e-12)
    return float(((found - own).abs().max() / scale).detach())
