"""``gls-es train``: train a network, or continue a run."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from gls_es.basics.durations import Running

from .options import (
    DURATION,
    KEEP,
    RADII,
    RUN,
    SETTING,
    START,
    config_option,
    config_tables,
    output_options,
    problem_option,
)
from .selection import check_run_folder
from .session import Session

LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
SEARCHERS = ("pgpe", "rgs", "grad", "snes", "xnes", "cem", "cmaes", "ga")
_ACTORS = ("actors", "gpus_per_actor", "ray_address")
_SOURCES = {
    ParameterSource.COMMANDLINE: "command line",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}
_TALK = ("json", "quiet", "verbose", "debug")
_WITH_RESUME = frozenset({"resume", "generations", "data", "problem", "save_every", "keep", "log", *_ACTORS, *_TALK})


@click.command()
@problem_option("A name that `gls-es problems` lists, package.module:Class, or file.py:Class.")
@click.option(
    "--searcher", type=click.Choice(SEARCHERS), default="pgpe", show_default=True, help="What moves the weights."
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="RUN", help="Folder of the run; by default a new one in runs/."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Decides everything random."
)
@click.option("--eps", type=RADII, help="Radius in pixel units, 0.1 or 8/255, or [0.1, 0.1, 0]; default the problem's.")
@click.option("--method", metavar="NAME", help="Relaxation to train under, crown or ibp say; by default the problem's.")
@click.option("--loss", metavar="NAME", help="Loss to minimise, robust or sabr say; by default the recipe's.")
@click.option("--generations", type=click.IntRange(min=1), help="When to end; by default the recipe's number.")
@click.option(
    "--budget",
    type=DURATION,
    metavar="TIME",
    help="Train for about this time, 90s, 10m or 2h say: generations are timed first, and the recipe's phases are "
    "stretched or shrunk to what fits.",
)
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@click.option("--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1, ...")
@click.option(
    "--set",
    "settings",
    type=SETTING,
    multiple=True,
    help="A hyper-parameter of the recipe, or an option of the problem; may be repeated.",
)
@click.option("--tf32", is_flag=True, help="Let CUDA compute in TF32: faster, less exact; certificates never do.")
@click.option("--init", type=START, metavar="FILE", help="Begin with the weights of this checkpoint or state dict.")
@click.option(
    "--save-every",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Time between two checkpoints; by default 30, with 0 after every generation.",
)
@click.option(
    "--keep",
    type=KEEP,
    metavar="N|best",
    help="Also keep the latest N checkpoints, numbered; or best: the one whose certified accuracy on validation images "
    "(--set validation=500) was best, as best.pt.",
)
@click.option(
    "--actors", type=click.IntRange(min=0), default=0, help="Processes that share the population, through Ray."
)
@click.option(
    "--gpus-per-actor", type=click.FloatRange(min=0), default=0.0, help="GPUs for each of them; 0.5: two share one."
)
@click.option("--ray-address", metavar="HOST:PORT", help="A running Ray cluster, for actors on several machines.")
@click.option(
    "--log",
    type=click.Choice(LOGGERS),
    multiple=True,
    help="Also log to a CSV file, TensorBoard, Weights & Biases or MLflow; may be repeated.",
)
@click.option("--resume", type=RUN, metavar="RUN", help="Continue the run in this folder.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done, and about how long it would take; write nothing."
)
@config_option("recipe", "options")
@output_options
@click.pass_context
def train(ctx: click.Context, /, **options: Any) -> None:
    """Train the network of a problem so that its robustness can be proved, or continue a run.

    The run folder receives checkpoint.pt, config.toml and metrics.jsonl. Ctrl-C saves and says how to go on.
    """
    begun = time.perf_counter()
    if options["resume"] is not None:
        _refuse_with_resume(ctx)
    elif options["problem"] is None:
        raise click.UsageError("give --problem NAME (`gls-es problems` lists them) or --resume RUN", ctx)
    session = ctx.ensure_object(Session)
    if options["out"] is not None:
        check_run_folder(options["out"])
    from gls_es.training.slips import check_slips

    check_slips([] if options["method"] is None else [options["method"]], _overrides(ctx, options))
    from .output import messages, prepare_libraries, print_json

    prepare_libraries(session)
    if options["dry_run"]:
        planned = _plan(ctx, options)
        _show_plan(planned, _sources(ctx, options, planned), session)
        return
    from gls_es.training import TrainingInterrupted
    from gls_es.training.progress import make_progress

    try:
        with make_progress(messages(session), quiet=session.quiet, verbose=session.verbose) as shown:
            progress = Recorder(shown)
            checkpoint = _work(ctx, options, progress, begun)
    except TrainingInterrupted as stopped:
        if stopped.at_once and threading.active_count() > 1:
            _leave(session, stopped)
        raise
    if session.json:
        print_json(progress.result(checkpoint))
    else:
        messages(session).print(
            f"saved: {checkpoint}\ncertify it with: gls-es certify {checkpoint}{_named(options)}", soft_wrap=True
        )


def _named(options: Mapping[str, Any]) -> str:
    """What the next command needs where the problem is in a file, whose code runs only if the user names it."""
    from gls_es.problem.registry import named_by_file

    problem = options["problem"] or ""
    return f" --problem {problem}" if named_by_file(problem) else ""


def _leave(session: Session, stopped: Exception) -> NoReturn:
    """End the process without waiting for threads, which may work on a broken-off generation for minutes."""

    def work() -> NoReturn:
        raise stopped

    code = session.run(work)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class Recorder:
    """Hands progress on, and keeps what the result is made of."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._known: dict[str, Any] = {}

    def start(self, plan: Mapping[str, Any]) -> None:
        """Training begins."""
        self._inner.start(plan)

    def update(self, row: Mapping[str, Any]) -> None:
        """A generation is done."""
        self._keep(row)
        self._inner.update(row)

    def note(self, text: str) -> None:
        """Something for people."""
        self._inner.note(text)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Training has ended; the summary has the last word, over the rows' numbers."""
        self._keep(summary)
        self._inner.finish(summary)

    def result(self, checkpoint: Path) -> dict[str, Any]:
        """What ``--json`` prints."""
        generations = self._known.get("generation", self._known.get("generations"))
        names = ("natural_accuracy", "certified_accuracy", "mean_loss", "elapsed_seconds")
        return {
            "checkpoint": str(checkpoint),
            "run": str(Path(checkpoint).parent),
            "generations": generations,
            **{name: self._known.get(name) for name in names},
        }

    def _keep(self, values: Mapping[str, Any]) -> None:
        self._known.update({key: value for key, value in values.items() if value is not None})


def _refuse_with_resume(ctx: click.Context) -> None:
    """A run goes on as it was set up: an option that would be ignored is refused."""
    for param in ctx.command.params:
        given = ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if given and param.name not in _WITH_RESUME:
            raise click.UsageError(
                f"--resume continues a run as it was set up, so {param.opts[0]} does not go with it; leave one out", ctx
            )


def _work(ctx: click.Context, options: dict[str, Any], progress: Recorder, begun: float) -> Path:
    from gls_es import training

    if options["resume"] is not None:
        return Path(
            training.resume(
                options["resume"],
                generations=options["generations"],
                data_root=options["data"],
                problem=options["problem"],
                bookkeeping=_bookkeeping(options),
                actors=_actors(options),
                progress=progress,
            )
        )
    arguments = _arguments(ctx, options)
    if options["budget"] is not None:  # what the imports took is part of it
        arguments["budget"] = Running.begun(options["budget"], begun)
    return Path(training.train(options["problem"], options["searcher"], **arguments, progress=progress))


def _plan(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    from gls_es import benchmark

    arguments = _arguments(ctx, options)
    del arguments["out"]  # nothing is written
    return benchmark.timed_plan(options["problem"], options["searcher"], **arguments)


def _arguments(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of ``gls_es.train`` and ``gls_es.training.plan``."""
    same = ("out", "seed", "eps", "method", "generations", "budget", "device", "init", "tf32")
    return {name: options[name] for name in same} | {
        "data_root": options["data"],
        "overrides": _overrides(ctx, options),
        "bookkeeping": _bookkeeping(options),
        "actors": _actors(options),
    }


def _overrides(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Fields of the recipe and options of the problem."""
    tables = config_tables(ctx)
    loss = {} if options["loss"] is None else {"loss": options["loss"]}
    return {**tables.get("recipe", {}), **tables.get("options", {}), **loss, **dict(options["settings"])}


def _bookkeeping(options: dict[str, Any]) -> Any:
    from gls_es.training import Bookkeeping

    return Bookkeeping(save_every=options["save_every"], keep=options["keep"], log=options["log"] or None)


def _actors(options: dict[str, Any]) -> Any:
    from gls_es.training import Actors

    return Actors(options["actors"], options["gpus_per_actor"], options["ray_address"])


def _sources(ctx: click.Context, options: dict[str, Any], planned: Mapping[str, Any]) -> dict[str, str]:
    """Where each value of the plan comes from, by its dotted names; what only follows from others is left out."""
    sources = {str(param.name): ctx.get_parameter_source(str(param.name)) for param in ctx.command.params}
    given = {name: _SOURCES[source] for name, source in sources.items() if source in _SOURCES}
    found = {name: given.get(name, "default") for name in planned if name in sources}
    recipe = dict.fromkeys(planned.get("recipe", {}), "recipe")
    if "generations" in given:
        recipe["generations"] = given["generations"]
    recipe |= dict.fromkeys(config_tables(ctx).get("recipe", {}), "file")
    if "loss" in given:
        recipe["loss"] = given["loss"]
    recipe |= {name: given["settings"] for name, _ in options["settings"]}
    found |= {name: recipe[name] for name in ("generations", "loss") if name in found and name in recipe}
    return found | {f"recipe.{name}": source for name, source in recipe.items()}


def _show_plan(plan: Mapping[str, Any], sources: Mapping[str, str], session: Session) -> None:
    from rich.table import Table
    from rich.text import Text

    from .output import print_json, show

    if session.json:
        print_json({**plan, "sources": sources})
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in _flat(plan, ""):
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(Text(key), Text(shown), Text(sources.get(key, "")))
    show(table)


def _flat(plan: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    """The plan's entries, those of nested tables by dotted names."""
    rows: list[tuple[str, Any]] = []
    for key, value in plan.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return rows
