"""``gls-es certify``: which held-out images keep their class on the whole of their ball."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gls_es.errors import ConfigError

from .options import EPS, config_option, output_options
from .session import Session

_INTERVAL = 5.0  # seconds between two lines of progress off a terminal
_ACCURACIES = {
    "natural_accuracy": "natural",
    "adversarial_accuracy": "adversarial (upper limit of the robust accuracy)",
    "certified_accuracy": "certified (lower limit)",
}
Report = Callable[[int, int, dict[str, int]], None]


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--problem", metavar="NAME", help="The problem it was trained on, where the checkpoint names a file.")
@click.option("--eps", type=EPS, multiple=True, help="Radius in pixel units, 0.1 or 8/255; by default the stored one.")
@click.option(
    "--split",
    type=click.Choice(("test", "validation", "train")),
    default="test",
    show_default=True,
    help="Which images; validation if the run kept some out of training.",
)
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="First image.")
@click.option("--limit", type=click.IntRange(min=1), help="How many images; by default all that follow.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.jsonl",
    help="A record per image; a file of the same run is continued.",
)
@click.option(
    "--execution", metavar="float32|float64|real", help="Arithmetic whose results are certified; by default float32."
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images worked on at once.")
@click.option("--attack-steps", type=click.IntRange(min=1), help="Steps of every attack.")
@click.option("--attack-restarts", type=click.IntRange(min=1), help="Starts of every attack.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the attack's starts.")
@click.option("--device", help="Where to compute: cpu, cuda, ...; by default cpu.")
@config_option()
@output_options
@click.pass_obj
def certify(session: Session, /, checkpoint: Path, **options: Any) -> None:
    """Certify the network in CHECKPOINT on its problem's held-out images.

    An image is certified if no point within eps of it (and in [0, 1]) is classified otherwise, falsified if such a
    point was found, and unknown if neither could be shown.
    """
    if len(options["eps"]) > 1:
        raise ConfigError("--eps: one radius at a time; run the command once for each.")
    out: Path | None = options["out"]
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first.")
    from .output import messages, prepare_libraries, print_json, results

    prepare_libraries()
    from gls_es import training

    trained = training.load_trained(checkpoint, problem=options["problem"])
    images, labels = _images(trained, options)
    eps = options["eps"][0] if options["eps"] else trained.eps
    with _progress(messages(), session) as progress:
        report = _certify(trained, images, labels, eps, options, progress)
    about = {"problem": trained.problem_name, "start": options["start"], "path": str(checkpoint)}
    summary = {**report.to_json(), **about}
    if session.json:
        print_json(summary)
    else:
        console = results()
        for part in _tables(summary):
            console.print(part)


def _images(trained: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """The chosen held-out images, in the order of the dataset."""
    images = trained.dataset(options["data"]).split(options["split"])
    start = options["start"]
    if start >= len(images):
        raise ConfigError(f"--start {start}: the {options['split']} images are numbered 0 to {len(images) - 1}.")
    end = len(images) if options["limit"] is None else min(start + options["limit"], len(images))
    return images.batch(slice(start, end))  # type: ignore[no-any-return]


def _certify(
    trained: Any, images: Any, labels: Any, eps: float, options: dict[str, Any], progress: Report | None
) -> Any:
    from gls_es import certification

    attack = {"steps": options["attack_steps"], "restarts": options["attack_restarts"]}
    given = {"execution": options["execution"], "batch_size": options["batch_size"], "device": options["device"]}
    return certification.certify(
        trained,
        images,
        labels,
        eps,
        seed=options["seed"],
        records=options["out"],
        progress=progress,
        attack=certification.AttackOptions(**_given(attack)),
        **_given(given),
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; the library's own defaults hold for the others."""
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def _progress(console: Any, session: Session) -> Iterator[Report | None]:
    """A bar on a terminal, a line every few seconds elsewhere, nothing if quiet."""
    if session.quiet:
        yield None
    elif console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[counts]}"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=None, counts="")
            yield lambda done, total, counts: bar.update(task, completed=done, total=total, counts=_counts(counts))
    else:
        yield _lines(console)


def _lines(console: Any) -> Report:
    last = time.monotonic()

    def report(done: int, total: int, counts: dict[str, int]) -> None:
        nonlocal last
        if time.monotonic() - last >= _INTERVAL:
            last = time.monotonic()
            console.print(f"{done}/{total} images: {_counts(counts)}", soft_wrap=True)

    return report


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)


def _tables(summary: Mapping[str, Any]) -> list[Any]:
    """What a person sees: the stages, and the accuracies with their numbers of images."""
    from rich.table import Table
    from rich.text import Text

    from .output import percent

    n = summary["n"]
    stages = Table(box=None, pad_edge=False, header_style="bold")
    columns = list(dict.fromkeys(name for stage in summary["stages"].values() for name in stage))
    stages.add_column("stage")
    for column in columns:
        stages.add_column(column, justify="right")
    for name, stage in summary["stages"].items():
        stages.add_row(name, *(_cell(stage.get(column)) for column in columns))
    accuracies = Table(box=None, pad_edge=False, show_header=False)
    for key, name in _ACCURACIES.items():
        accuracies.add_row(name, Text(percent(summary[key])), Text(f"{round(summary[key] * n)} of {n}"))
    accuracies.add_row("unknown", Text(percent(summary["unknown"] / n)), Text(f"{summary['unknown']} of {n}"))
    head = f"{summary['problem']}: {n} images from number {summary['start']}, eps = {summary['eps']:.6g}"
    return [Text(head), Text(""), stages, Text(""), accuracies, Text(f"\n{summary['seconds']:.1f} seconds")]


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
