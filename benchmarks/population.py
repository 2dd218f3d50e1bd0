"""Ratios of a whole population against loops over its members, on the networks of the performance targets.

    python benchmarks/population.py --out benchmarks/results/MACHINE.json

Every case runs in a fresh process of its own, and everything that is compared runs in turns inside it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import networks
import torch

from gls_es.benchmark import LOOPS, Sizes, benchmark_network
from gls_es.benchmark.measure import machine
from gls_es.benchmark.subject import Subject

GIB = 1 << 30

_PLAIN = Sizes()
_GRADIENTS = Sizes(backward=True)
_ALONE = Sizes(loops=(), repeats=1, memory_budget=6 * GIB)


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        net: makes the network.
        members: P.
        batch: B.
        methods: the relaxations.
        trained: whether the members lie around trained weights instead of initial ones.
        sizes: what is measured besides; threads and repeats come from the command line.
        most_bytes: what the process may take, where that is a target.
    """

    net: Callable[[], networks.Net]
    members: int
    batch: int
    methods: tuple[str, ...] = ("ibp", "crown-ibp", "crown")
    trained: bool = False
    sizes: Sizes = _PLAIN
    most_bytes: int | None = None


def _cnn7_narrow() -> networks.Net:
    return networks.cnn7(8, 64)


CASES = {
    "cnn3-small": Case(networks.cnn3_small, 64, 64, sizes=_GRADIENTS),
    "cnn3-small-trained": Case(
        networks.cnn3_small, 64, 64, ("ibp", "crown-ibp", "crown", "crown-unstable"), trained=True
    ),
    "cnn3-ibp": Case(networks.cnn3, 16, 64, ("ibp", "crown-ibp"), sizes=_GRADIENTS),
    "cnn3-crown": Case(networks.cnn3, 2, 16, ("crown",), sizes=Sizes(backward=True, gradient_members=2)),
    "cnn7-narrow": Case(_cnn7_narrow, 4, 16, ("ibp", "crown-ibp")),
    "cnn7-narrow-crown": Case(_cnn7_narrow, 1, 16, ("crown",), sizes=Sizes(repeats=1)),
    "cnn7-memory": Case(networks.cnn7, 8, 32, ("crown-ibp",), sizes=_ALONE, most_bytes=6 * GIB),
}


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes.")
@click.option("--case", "cases", multiple=True, type=click.Choice(list(CASES)), help="Repeatable; by default all.")
@click.option("--method", "methods", multiple=True, help="Other relaxations than the case's; repeatable.")
@click.option("--members", type=click.IntRange(min=1), help="Another P than the case's.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Root of MNIST's files.")
@click.option("--loop", "loops", multiple=True, type=click.Choice(LOOPS), help="Only this loop; repeatable.")
@click.option("--default-allocator", is_flag=True, help="Do not have freed memory kept, which training does.")
@click.option("--tiny", is_flag=True, help="Two members, two images, one round: does it run at all?")
@click.option("--alone", is_flag=True, hidden=True)
def main(out: Path | None, cases: tuple[str, ...], alone: bool, **options: Any) -> None:
    """Time the cases and write one JSON object."""
    names = cases or tuple(CASES)
    if alone:
        found = run(names[0], **options)
    else:
        device = torch.device(options["device"])
        found = {"machine": machine(device), "cases": {name: _in_process(name, options) for name in names}}
    text = json.dumps(found, indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)


def run(
    name: str,
    *,
    methods: tuple[str, ...],
    threads: int,
    repeats: int,
    device: str,
    tiny: bool,
    members: int | None = None,
    loops: tuple[str, ...] = (),
    default_allocator: bool = False,
    data: Path | None = None,
) -> dict[str, Any]:
    """One case in this process."""
    torch.set_num_threads(1)
    case = CASES[name] if members is None else replace(CASES[name], members=members)
    sizes = replace(
        case.sizes, threads=threads, repeats=min(repeats, case.sizes.repeats), keep_freed=not default_allocator
    )
    if loops and sizes.loops:
        sizes = replace(sizes, loops=loops)
    if tiny:
        case, sizes = replace(case, members=2, batch=2), replace(sizes, repeats=1, gradient_members=2, matmul=256)
    subject = _subject(case, data)
    if device != "cpu":
        subject = subject.to(device)
    start = _peak_of_process()
    found = benchmark_network(subject, methods or case.methods, sizes=sizes, progress=lambda m: _say(f"{name}: {m}"))
    del found["machine"]
    found["process_bytes"] = {"before": start, "peak": _peak_of_process()}
    if case.most_bytes is not None:
        found["process_bytes"]["most"] = case.most_bytes
        found["within"] = _peak_of_process() <= case.most_bytes
    found["unstable_fraction"] = networks.unstable_fraction(subject)
    return found


def _subject(case: Case, data: Path | None) -> Subject:
    if case.trained:
        return networks.trained_subject(case.net(), case.members, case.batch, data=data)
    return networks.random_subject(case.net(), case.members, case.batch)


def _in_process(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """One case in a fresh process: each starts with the same state of the allocator."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        command = [sys.executable, __file__, "--alone", "--case", name, "--out", str(part)]
        command += ["--threads", str(options["threads"]), "--repeats", str(options["repeats"])]
        command += ["--device", options["device"]]
        command += [] if options["members"] is None else ["--members", str(options["members"])]
        command += [f"--{option.replace('_', '-')}" for option in ("tiny", "default_allocator") if options[option]]
        command += [] if options["data"] is None else ["--data", str(options["data"])]
        for option in ("method", "loop"):
            for value in options[f"{option}s"]:
                command += [f"--{option}", value]
        root = str(Path(__file__).resolve().parents[1])  # also where gls-es is not installed
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False)
        if done.returncode != 0:
            return {"failed": done.returncode}
        found: dict[str, Any] = json.loads(part.read_text(encoding="utf-8"))
        return found


def _peak_of_process() -> int:
    """The largest resident size of this process so far, everything included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
