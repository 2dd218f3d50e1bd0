"""How complete certification is, and how fast its stages are, on trained networks, as JSON.

    python benchmarks/certification.py ibp=runs/ibp/checkpoint.pt pgd=runs/pgd/checkpoint.pt --data ROOT --out FILE.json

One thread. Per network: the verdicts of the whole cascade on the first test images, how many of them optimised slopes
leave to branch and bound and how many stay unknown, and images per second of every bound on one batch: plain float32,
guarded float64 as certification needs it, and auto_LiRPA's float32 where it is installed.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from gls_es import bounds
from gls_es.basics.memory import keep_freed_memory
from gls_es.benchmark.measure import Work, interleaved, machine
from gls_es.benchmark.peer import PEERS, peer_loops
from gls_es.benchmark.subject import Subject
from gls_es.certification import certify, sound_margins
from gls_es.network import Network, Normalize
from gls_es.training import Trained, load_trained

BOUNDS = ("ibp", "crown-ibp", "crown", "crown-intersect", "best")


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NAME=CHECKPOINT...")
@click.option("--data", type=click.Path(path_type=Path), help="Folder that holds the datasets.")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Test images.")
@click.option("--eps", type=float, help="Radius; by default the checkpoint's.")
@click.option("--timeout", type=float, default=20.0, show_default=True, help="Seconds of branch and bound an image.")
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, help="Images of a timed bound.")
@click.option("--repeats", type=click.IntRange(min=1), default=7, show_default=True, help="Timed rounds of bounds.")
@click.option("--speed-only", is_flag=True, help="Leave the verdicts out.")
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
        images, labels = trained.dataset(data).test.batch(slice(0, max(limit, rest["batch"])))
        radius = trained.eps if eps is None else eps
        speed = bounds_speed(trained, images[: rest["batch"]], labels[: rest["batch"]], radius, rest["repeats"])
        found: dict[str, Any] = {"problem": trained.problem_name, "eps": radius}
        if not rest["speed_only"]:
            found |= completeness(trained, images[:limit], labels[:limit], radius, timeout=timeout, seed=rest["seed"])
            click.echo(f"{name}: {json.dumps(found['verdicts'])}", err=True)
        result["networks"][name] = found | {"batch": rest["batch"], "repeats": rest["repeats"], "speed": speed}
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


def bounds_speed(
    trained: Trained, images: torch.Tensor, labels: torch.Tensor, eps: float, repeats: int
) -> dict[str, dict[str, Any]]:
    """Images per second of every bound on one batch, by the median of rounds taken in turns.

    ``ratio`` and ``guarded_ratio`` say how many times as many images as auto_LiRPA, by the median of the rounds' own
    ratios; ``largest_difference`` is that of the float32 margins from auto_LiRPA's.
    """
    subject = after_normalisation(trained.network, images, labels, eps)
    return {method: _speed(subject, method, repeats) for method in BOUNDS}


@torch.no_grad()
def after_normalisation(net: Network, images: torch.Tensor, labels: torch.Tensor, eps: float) -> Subject:
    """Balls and what follows a first ``Normalize`` on them, a layer that auto_LiRPA 0.3 bounds only by intervals."""
    ball = Subject.around(net, images, labels, eps=eps, params=net.parameter_vector()[None].float())
    module = net.module()
    if not (isinstance(module, nn.Sequential) and isinstance(first := module[0], Normalize)):
        return ball
    inner = Network(module[1:], net.input_shape)
    return Subject(inner, first(ball.lower), first(ball.upper), labels, ball.params, eps)


@torch.no_grad()
def _speed(subject: Subject, method: str, repeats: int) -> dict[str, Any]:
    net, lower, upper, labels = subject.net, subject.lower, subject.upper, subject.labels
    wide = lower.double(), upper.double()
    works: dict[str, Work] = {
        "float32": lambda: bounds.margins(net, lower, upper, labels, method, subject.params),
        "guarded": lambda: sound_margins(net, *wide, labels, method),
    }
    loops, missing = peer_loops(subject, method) if method in PEERS else ({}, None)
    for name, loop in loops.items():
        works[name] = partial(loop.margins, subject.params)
    timings = interleaved(works, repeats, device=subject.params.device)
    found: dict[str, Any] = {f"{name}_per_second": len(labels) / timings[name].median for name in works}
    ours = bounds.margins(net, lower, upper, labels, method, subject.params)
    for name, loop in loops.items():
        found[name] = {
            "ratio": _ratio(timings[name].wall, timings["float32"].wall),
            "guarded_ratio": _ratio(timings[name].wall, timings["guarded"].wall),
            "largest_difference": float((loop.margins(subject.params) - ours).abs().max()),
        } | loop.about
    return found if missing is None else found | {"auto_lirpa": {"missing": missing}}


def _ratio(theirs: tuple[float, ...], ours: tuple[float, ...]) -> float:
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


if __name__ == "__main__":
    main()
