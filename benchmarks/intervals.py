"""Intervals and what rests on them, against another build of gls-es and against auto_LiRPA, as ratios.

    python benchmarks/intervals.py --before WORKTREE --peer FOLDER [--peer FOLDER ...]

Every contender has a process of its own, with one thread, and they take turns: a round is one call in each. Times are
processor times (kernel's included), medians over the rounds; a ratio is the median of the rounds' ratios. ``library``
contenders leave the allocator as it is, ``kept`` ones have it keep freed memory, as training does.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve()
GUARDED = "guarded-"
"""Before a method's name: the bounds that certify one network, its own weights, in place of a population's."""


@click.command()
@click.option("--before", type=click.Path(exists=True, path_type=Path), help="A checkout of another build.")
@click.option("--peer", multiple=True, type=click.Path(exists=True, path_type=Path), help="Where auto_LiRPA lies.")
@click.option("--method", "methods", multiple=True, help="Relaxations, guarded-NAME for certified ones; repeatable.")
@click.option("--net", type=click.Choice(["cnn3-small", "cnn3", "cnn7"]), default="cnn3-small", show_default=True)
@click.option("--members", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--worker", hidden=True, help="Be a contender.")
@click.option("--folder", hidden=True, type=click.Path(path_type=Path))
def main(before: Path | None, peer: tuple[Path, ...], methods: tuple[str, ...], rounds: int, **options: Any) -> None:
    """Time the contenders and write one JSON object."""
    worker, folder = options.pop("worker"), options.pop("folder")
    if worker is not None:
        _work(worker, folder, methods[0], options)
        return
    found = {"threads": 1, "rounds": rounds, **options, "torch": torch.__version__, "load": os.getloadavg()[0]}
    for method in methods or ("ibp", "crown-ibp"):
        found[method] = _compare(method, before, peer, rounds, options)
    click.echo(json.dumps(found, indent=1))


def _compare(
    method: str, before: Path | None, peer: tuple[Path, ...], rounds: int, options: dict[str, Any]
) -> dict[str, Any]:
    """One relaxation: times per contender, ratios against the library call and the kept one, agreement."""
    trees = {"now": [HERE.parents[1]]} | ({"before": [before]} if before else {})
    trees |= {"peer": [HERE.parents[1], *peer]} if peer else {}
    with tempfile.TemporaryDirectory() as folder:
        workers: dict[str, subprocess.Popen[str]] = {}
        for tree, paths in trees.items():
            for state in ("library", "kept"):
                name = f"{tree} {state}"
                command = [sys.executable, str(HERE), "--worker", name, "--folder", folder, "--method", method]
                command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
                env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                workers[name] = subprocess.Popen(command, env=env, text=True, cwd=paths[0], **pipes)  # type: ignore[call-overload]
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(rounds + 1):  # the first is for warming up
            for name, process in workers.items():
                times[name].append(_ask(process))
        peaks = {name: _ask(process, "peak") for name, process in workers.items()}
        for process in workers.values():
            process.communicate("stop\n")
        results = {name: torch.load(Path(folder) / f"{name}.pt") for name in workers}
    return _summary({name: values[1:] for name, values in times.items()}, results, peaks)


def _ask(process: subprocess.Popen[str], question: str = "go") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{question}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _summary(times: dict[str, list[float]], results: dict[str, Tensor], peaks: dict[str, float]) -> dict[str, Any]:
    ratios = {}
    for name in times:
        for state in ("library", "kept"):
            if name.split()[0] != "now" and name.endswith(state):
                pairs = zip(times[name], times[f"now {state}"], strict=True)
                ratios[name] = round(statistics.median(one / other for one, other in pairs), 2)
    size = {name: len(result) * result.shape[1] for name, result in results.items()}
    mine = results["now library"].double()
    return {
        "microseconds": {n: round(statistics.median(v) / size[n] * 1e6, 2) for n, v in times.items()},
        "ratios": ratios,
        "largest difference": {
            n: float((r.double() - mine).abs().max()) for n, r in results.items() if n != "now library"
        },
        "largest value": float(mine.abs().max()),
        "megabytes above start": {n: round(v / 1e6, 1) for n, v in peaks.items()},
    }


def _work(name: str, folder: Path, method: str, options: dict[str, Any]) -> None:
    """Answer every line on standard input with the seconds of a call."""
    torch.set_num_threads(1)
    tree, state = name.split()
    if state == "kept":
        _keep_freed_memory()
    call = _contender(tree, method, options)
    with torch.inference_mode():
        torch.save(call().clone(), folder / f"{name}.pt")
        start = _peak()
        for line in sys.stdin:
            if line.strip() == "stop":
                break
            if line.strip() == "peak":
                sys.stdout.write(f"{_peak() - start + 0.0}\n")
            else:
                begun = time.process_time()
                call()
                sys.stdout.write(f"{time.process_time() - begun}\n")
            sys.stdout.flush()


def _keep_freed_memory() -> None:
    for place in ("gls_es.basics.memory", "gls_es.memory"):  # builds differ
        try:
            importlib.import_module(place).keep_freed_memory()
        except ModuleNotFoundError:
            continue
        return


def _contender(tree: str, method: str, options: dict[str, Any]) -> Callable[[], Tensor]:
    """The call to time: (P, B, K - 1) margins."""
    from gls_es import bounds
    from gls_es.network import Network

    module, shape, eps = _network(options["net"])
    net = Network(module, shape)
    generator = torch.Generator().manual_seed(1)
    centre = net.parameter_vector().detach()
    images = torch.rand(options["batch"], *shape, generator=generator)
    labels = torch.randint(0, 10, (len(images),), generator=generator)
    lower, upper = (images - eps).clamp(min=0.0), (images + eps).clamp(max=1.0)
    guarded, plain = method.startswith(GUARDED), method.removeprefix(GUARDED)
    members = 1 if guarded else options["members"]
    params = centre + 0.01 * torch.randn(members, len(centre), generator=generator) * (members > 1)
    if tree == "peer":
        from gls_es.benchmark.peer import peer_loops
        from gls_es.benchmark.subject import Subject

        loops, reason = peer_loops(Subject(net, lower, upper, labels, params, eps), plain)
        if reason is not None:
            raise SystemExit(reason)
        loop = next(iter(loops.values()))
        return lambda: loop.margins(params)
    if guarded:
        return _certifying(net, images, labels, eps, plain)
    return lambda: bounds.margins(net, lower, upper, labels, method=plain, params=params)


def _certifying(net: Any, images: Tensor, labels: Tensor, eps: float, method: str) -> Callable[[], Tensor]:
    """What ``certify`` computes for a bound, (1, B, K - 1)."""
    from gls_es.certification import rounding, sound_margins

    try:
        proven: Any = importlib.import_module("gls_es.certification.screen").screened_margins
    except ModuleNotFoundError:  # an earlier build
        proven = sound_margins

    def call() -> Tensor:
        found: Tensor = proven(net, *rounding.outward_ball(images, eps), labels, method)
        return found[None]

    return call


def _network(name: str) -> tuple[nn.Module, tuple[int, ...], float]:
    """The networks of benchmarks/networks.py, which other builds may not have."""
    torch.manual_seed(0)
    if name == "cnn3-small":
        convs = (nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU())
        return nn.Sequential(*convs, nn.Flatten(), nn.Linear(392, 10)), (1, 28, 28), 0.1
    if name == "cnn3":
        convs = (nn.Conv2d(1, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU())
        dense = (nn.Flatten(), nn.Linear(800, 100), nn.ReLU(), nn.Linear(100, 10))
        return nn.Sequential(*convs, *dense), (1, 28, 28), 0.1
    widths = [(3, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 16, 1)]
    layers: list[nn.Module] = []
    for before, after, stride in widths:
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(4096, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*layers), (3, 32, 32), 8 / 255


def _peak() -> int:
    """The largest resident size of this process so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
