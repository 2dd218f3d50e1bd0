"""One benchmark: a population under each relaxation, against loops over its members, in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gls_es import bounds, kernels
from gls_es.basics.memory import keep_freed_memory
from gls_es.benchmark import plain
from gls_es.benchmark.comparison import Comparison, Sizes
from gls_es.benchmark.measure import machine, matmul_peak
from gls_es.benchmark.subject import Subject, population, problem_images
from gls_es.errors import ConfigError
from gls_es.problem import CertifiedTrainingProblem
from gls_es.problem.registry import registered_name

METHODS = plain.METHODS
"""What is timed if nothing else is asked for."""

Progress = Callable[[str], None]


def benchmark(
    problem: CertifiedTrainingProblem,
    methods: Sequence[str] = METHODS,
    *,
    members: int = 64,
    batch: int = 64,
    sizes: Sizes | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time a problem's fitness evaluation under some relaxations.

    The population is the problem's initial network with normal noise. The robust loss alone is timed, whatever weight
    the problem gives the natural one.

    Args:
        problem: the problem; its images are random if its data are missing.
        methods: names of relaxations.
        members: P.
        batch: B, images of a generation.
        sizes: threads, rounds and what else to measure.
        progress: told what is measured next.

    Returns:
        Plain values for JSON: what was measured, the machine, and a table per relaxation; see docs/performance.md.

    Raises:
        ConfigError: sizes below 1, or an unknown relaxation.
    """
    for name, value in (("members", members), ("batch", batch)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")
    net, device = problem.network, torch.device(problem.aux_device)
    images, labels, source = problem_images(problem, batch)
    center = net.parameter_vector().to(torch.float32)
    subject = Subject.around(
        net,
        images.to(device),
        labels.to(device),
        eps=problem.eps,
        params=population(center, members, seed=problem.run_seed).to(device),
    )
    found = benchmark_network(subject, methods, sizes=sizes, progress=progress)
    return {"problem": registered_name(type(problem)), "images": source, **found}


def benchmark_network(
    subject: Subject,
    methods: Sequence[str] = METHODS,
    *,
    sizes: Sizes | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The same for a network, boxes and a population of one's own; see :func:`benchmark`."""
    sizes = Sizes() if sizes is None else sizes
    say = progress or (lambda _: None)
    names = list(dict.fromkeys(bounds.method_named(name).name for name in methods))
    if not names:
        raise ConfigError("name at least one method to time.")
    device = subject.params.device
    if device.type == "cpu" and sizes.keep_freed:
        keep_freed_memory()  # for everything that is compared
    say("matrix products")
    peaks = {n: matmul_peak(device, n, size=sizes.matmul) for n in sorted({1, sizes.threads})}
    tables = {}
    for name in names:
        say(name)
        tables[name] = Comparison(subject, name, sizes, peaks[1]).table()
    return {
        "parameters": subject.net.num_parameters,
        "members": len(subject.params),
        "batch": len(subject.labels),
        "eps": subject.eps,
        "dtype": str(subject.params.dtype).removeprefix("torch."),
        "threads": sizes.threads,
        "repeats": sizes.repeats,
        "keep_freed": sizes.keep_freed,
        "kernels": kernels.which() if device.type == "cpu" else "off",
        "machine": machine(device),
        "matmul_gflops": {str(n): peak / 1e9 for n, peak in peaks.items()},
        "methods": tables,
    }
