"""How complete certification is, and how fast its stages are, on trained networks, as JSON.

    python benchmarks/certification.py ibp=runs/ibp/checkpoint.pt pgd=runs/pgd/checkpoint.pt --data ROOT --out FILE.json

One thread. Per network: the verdicts of the whole cascade on the first test images, how many of them optimised slopes
leave to branch and bound and how many stay unknown, and images per second of every bound on one batch.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import torch

from gls_es.benchmark.measure import machine
from gls_es.certification import certify, outward_ball, sound_margins
from gls_es.memory import keep_freed_memory
from gls_es.training import Trained, load_trained

BOUNDS = ("ibp", "crown-ibp", "crown", "crown-intersect", "best")
REPEATS = 3


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NAME=CHECKPOINT...")
@click.option("--data", type=click.Path(path_type=Path), help="Folder that holds the datasets.")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Test images.")
@click.option("--eps", type=float, help="Radius; by default the checkpoint's.")
@click.option("--timeout", type=float, default=20.0, show_default=True, help="Seconds of branch and bound an image.")
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, help="Images of a timed bound.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the attack's starts.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes.")
def main(
    networks: tuple[str, ...], data: Path | None, limit: int, eps: float | None, timeout: float, **rest: Any
) -> None:
    """Certify NAME=CHECKPOINT networks and time the bounds on them."""
    torch.set_num_threads(1)
    keep_freed_memory()
    result: dict[str, Any] = {
        "command": "python benchmarks/certification.py "
        + " ".join(f"{n.partition('=')[0]}=CHECKPOINT" for n in networks),
        "machine": machine(torch.device("cpu")),
        "load_at_start": os.getloadavg()[0],
        "limit": limit,
        "timeout": timeout,
        "seed": rest["seed"],
        "networks": {},
    }
    for item in networks:
        name, _, path = item.partition("=")
        trained = load_trained(path)
        images, labels = trained.dataset(data).test.batch(slice(0, limit))
        radius = trained.eps if eps is None else eps
        speed = bounds_per_second(trained, images[: rest["batch"]], labels[: rest["batch"]], radius)
        found = completeness(trained, images, labels, radius, timeout=timeout, seed=rest["seed"])
        result["networks"][name] = found | {"images_per_second": speed, "batch": rest["batch"]}
        click.echo(f"{name}: {json.dumps(found['verdicts'])}", err=True)
    text = json.dumps(result, indent=1)
    if rest["out"] is None:
        click.echo(text)
    else:
        rest["out"].write_text(text + "\n", encoding="utf-8")


def completeness(
    trained: Trained, images: torch.Tensor, labels: torch.Tensor, eps: float, *, timeout: float, seed: int
) -> dict[str, Any]:
    """Verdicts of the whole cascade, and what each half of it leaves open."""
    started, used = time.perf_counter(), time.process_time()
    report = certify(trained, images, labels, eps, timeout=timeout, seed=seed)
    stages = report.stages
    return {
        "problem": trained.problem_name,
        "eps": eps,
        "n": report.n,
        "verdicts": report.counts,
        "natural_accuracy": report.natural_accuracy,
        "adversarial_accuracy": report.adversarial_accuracy,
        "certified_accuracy": report.certified_accuracy,
        "unknown_fraction": report.unknown / report.n,
        "left_by_alpha": stages["bab"].seen,
        "left_by_bab": report.unknown,
        "reasons": Counter(verdict.reason for verdict in report.verdicts if verdict.reason),
        "stages": {name: vars(stage).copy() for name, stage in stages.items()},
        "wall_seconds": time.perf_counter() - started,
        "process_seconds": time.process_time() - used,
        "load_at_end": os.getloadavg()[0],
    }


def bounds_per_second(trained: Trained, images: torch.Tensor, labels: torch.Tensor, eps: float) -> dict[str, float]:
    """Images per second of every guarded bound on one batch, the best of some rounds taken in turns."""
    lower, upper = outward_ball(images, eps)
    best = dict.fromkeys(BOUNDS, float("inf"))
    for _ in range(REPEATS):
        for method in BOUNDS:
            started = time.perf_counter()
            sound_margins(trained.network, lower, upper, labels, method)
            best[method] = min(best[method], time.perf_counter() - started)
    return {method: len(images) / seconds for method, seconds in best.items()}


if __name__ == "__main__":
    main()
