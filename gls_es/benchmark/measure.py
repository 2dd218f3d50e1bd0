"""How long, how many floating-point operations, and how much memory: measured in one process, in turns.

Times of different processes cannot be compared: another state of the allocator, another load of the machine. So what is
compared runs in turns in one process, and only ratios are quoted. Next to wall time stands the process' CPU time, which
other programs on the machine disturb less.
"""

from __future__ import annotations

import platform
import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of the rounds of one piece of work.

    Attributes:
        wall: by the clock.
        cpu: of all cores together.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round by the clock; what every ratio and rate is made of."""
        return statistics.median(self.wall)

    def to_json(self) -> dict[str, float]:
        """Median, best and spread, (slowest - fastest) / median."""
        spread = (max(self.wall) - min(self.wall)) / max(self.median, 1e-12)
        return {
            "seconds": self.median,
            "best_seconds": min(self.wall),
            "spread": spread,
            "cpu_seconds": statistics.median(self.cpu),
        }


def interleaved(works: Mapping[str, Work], rounds: int, *, device: torch.device) -> dict[str, Timing]:
    """Time pieces of work in turns, after one untimed call of each; every other round runs backwards.

    Args:
        works: what to call, by name.
        rounds: timed calls of each.
        device: where it computes; an accelerator is waited for.
    """
    for work in works.values():
        _seconds(work, device)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for index in range(rounds):
        for name in sorted(works, key=list(works).index, reverse=bool(index % 2)):
            found[name].append(_seconds(works[name], device))
    return {name: Timing(tuple(w for w, _ in each), tuple(c for _, c in each)) for name, each in found.items()}


def quickest(works: Mapping[Any, Work], *, device: torch.device, rounds: int = 1) -> Any:
    """The key of the piece of work with the shortest best time."""
    timings = interleaved(works, rounds, device=device)
    return min(timings, key=lambda name: min(timings[name].wall))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch's operations use ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def matmul_peak(device: torch.device, count: int, *, size: int | None = None, rounds: int = 5) -> float:
    """Floating-point operations per second of the best of some float32 matrix products with ``count`` threads.

    Args:
        device: where to multiply.
        count: threads on a CPU.
        size: rows and columns; by default large enough for the device.
        rounds: how many products.
    """
    size = size or (1024 if device.type == "cpu" else 8192)
    a, b = torch.randn(2, size, size, device=device)
    out = torch.empty(size, size, device=device)
    with threads(count), torch.no_grad():
        timing = interleaved({"": lambda: torch.mm(a, b, out=out)}, rounds, device=device)[""]
    return float(2 * size**3 / min(timing.wall))


def matmul_rate(device: torch.device, count: int, *, size: int = 512, seconds: float) -> float:
    """Floating-point operations per second over float32 matrix products, one after the other, with ``count`` threads.

    Args:
        device: where to multiply.
        count: threads on a CPU.
        size: rows and columns.
        seconds: how long, about.
    """
    a, b = torch.randn(2, size, size, device=device)
    out = torch.empty(size, size, device=device)
    with threads(count), torch.no_grad():
        _seconds(lambda: torch.mm(a, b, out=out), device)
        spent, done = 0.0, 0
        while done < 1 or spent < seconds:
            spent += _seconds(lambda: torch.mm(a, b, out=out), device)[0]
            done += 1
    return done * 2 * size**3 / max(spent, 1e-12)


@dataclass(frozen=True)
class Cost:
    """What one call takes.

    Attributes:
        flops: floating-point operations in matrix products and convolutions (two per multiply-add); the elementwise
            rest is not counted.
        peak_bytes: see :func:`cost`.
    """

    flops: int
    peak_bytes: int


def cost(work: Work, *, device: torch.device) -> Cost:
    """Count one call's operations and the most memory its tensors hold at once.

    On CUDA the memory is the allocator's own peak above what was allocated before. On a CPU it is the largest sum of
    the sizes of all tensors that the call has made and that are alive: what it needs whatever the allocator keeps for
    later, without the workspace inside a convolution. Only this thread's work is seen.
    """
    counter = FlopCounterMode(display=False)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with counter:
            work()
        torch.cuda.synchronize(device)
        return Cost(counter.get_total_flops(), torch.cuda.max_memory_allocated(device) - before)
    with counter, LiveBytes() as memory:
        work()
    return Cost(counter.get_total_flops(), memory.peak)


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations make, and takes each off when nothing refers to it any more.

    Attributes:
        live: bytes alive now.
        peak: the most at any time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: dict[int, object] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at the tensors that go in and come out."""
        self._look(args, old=True)
        self._look(kwargs, old=True)
        result = func(*args, **(kwargs or {}))
        self._look(result, old=False)
        return result

    def _look(self, values: Any, *, old: bool) -> None:
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in self._known:
                storage = value.untyped_storage()
                self._add(storage, 0 if old else storage.nbytes())  # what was there before costs nothing

    def _add(self, storage: Any, size: int) -> None:
        key = storage._cdata

        def gone(_: object) -> None:
            self._known.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on, without its name."""
    found: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["tf32"] = torch.backends.cuda.matmul.allow_tf32
    return found


def _seconds(work: Work, device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    _wait(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
