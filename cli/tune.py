"""``gls-es tune``: a search for hyper-parameters by natural and certified accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import DURATION, EPS, SETTING, config_option, output_options, problem_option
from .progress import image_progress
from .selection import check_run_folder
from .session import Session
from .train import SEARCHERS


@click.command()
@problem_option("A name that `gls-es problems` lists, package.module:Class, or file.py:Class.", required=True)
@click.option(
    "--searcher", type=click.Choice(SEARCHERS), default="pgpe", show_default=True, help="What moves the weights."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Folder of the search, a new one or one to go on with; by default tuning/PROBLEM-SEARCHER.",
)  # fmt: skip
@click.option(
    "--budget",
    type=DURATION,
    help="Time of all trials together, 30m or 2h say; a trial trains for 3/80 of it, and is certified.",
)
@click.option(
    "--trials", type=click.IntRange(1, 100_000), help="Trials in all; by default 20, or what --budget allows."
)
@click.option("--train-time", type=DURATION, help="Training of each trial; by default 3/4 of its share of --budget.")
@click.option("--eps", type=EPS, help="Radius in pixel units, 0.1 or 8/255; by default the problem's.")
@click.option("--method", metavar="NAME", help="Relaxation to train under, crown or ibp say; by default the problem's.")
@click.option("--loss", metavar="NAME", help="Loss to minimise, robust or sabr say; by default the recipe's.")
@click.option(
    "--search", multiple=True, metavar="NAME=LOW:HIGH",
    help="Search this hyper-parameter, or NAME=A|B|C, and no others than those named so; may be repeated.",
)  # fmt: skip
@click.option(
    "--set", "settings", type=SETTING, multiple=True,
    help="A hyper-parameter that all trials share, or an option of the problem; may be repeated.",
)  # fmt: skip
@click.option(
    "--validation", type=click.IntRange(min=1), metavar="N",
    help="Training images to keep out and to judge by; by default a fifth, at most 5000.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="How many of them to certify; by default 1000.")
@click.option("--timeout", type=DURATION, help="Of the search in certification, for each image; by default 0.5s.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Decides everything random; by default 0.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@click.option("--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1, ...")
@config_option()
@output_options
@click.pass_obj
def tune(session: Session, /, problem: str, searcher: str, **options: Any) -> None:
    """Search for hyper-parameters by two accuracies, natural and certified, and print the front of both.

    Trials are judged by training images that are kept out of training; test images play no part. FOLDER receives a
    folder for each trial, front.json and front.svg. A search that was stopped goes on; several processes may share a
    folder. `gls-es train --config FOLDER/trial-NNNN/run/config.toml` repeats a trial; with --set validation=0 it trains
    on all training images.
    """
    from .output import messages, prepare_libraries, print_json, show

    folder: Path = options.pop("out") or Path("tuning") / f"{problem.rpartition(':')[2].lower()}-{searcher}"
    check_run_folder(folder)
    loss = options.pop("loss")
    settings = dict(options.pop("settings")) | ({} if loss is None else {"loss": loss})
    from gls_es.training.slips import check_slips

    check_slips([] if options["method"] is None else [options["method"]], settings)
    prepare_libraries(session)
    from gls_es import experiments
    from gls_es.training.progress import make_progress

    console = messages(session)
    same = {"data_root": options.pop("data"), "device": options.pop("device")}
    trials, budget = options.pop("trials"), options.pop("budget")
    options["train_seconds"] = options.pop("train_time")
    tuning = experiments.make_tuning(
        folder, problem, searcher, budget=budget, settings=settings, data_root=same["data_root"], **options
    )
    search = experiments.Search(
        tuning, folder, **same,
        progress=lambda: make_progress(console, quiet=session.quiet, verbose=session.verbose),
        certifying=lambda: image_progress(console, session, "certifying"),
        say=lambda line: console.print(line, soft_wrap=True),
    )  # fmt: skip
    found = search.run(trials=trials, budget=budget)
    if session.json:
        print_json(experiments.front_table(tuning, found))
        return
    show(*_shown(tuning, found))
    console.print(f"trials, front.json and front.svg: {folder}", soft_wrap=True)


def _shown(tuning: Any, trials: Any) -> tuple[Any, Any]:
    """A line about the search, and the front as a table."""
    from rich.text import Text

    from gls_es.experiments.front import COLUMNS, cells_of_trial, front

    from .output import plain_table

    finished = sum(trial.finished for trial in trials)
    about = f"{tuning.problem}, {tuning.searcher}: the front of {finished} trials, {tuning.limit} validation images, %"
    best = front(trials)
    for trial in trials:
        if trial.number == 0 and trial.finished and trial not in best:  # what one would have used without a search
            certified, natural = cells_of_trial(trial)[1:3]
            about += f"; the recipe as it is, trial 0, has {certified} certified, {natural} natural"
    shown = plain_table()
    for name in COLUMNS:
        shown.add_column(name, justify="left" if name == COLUMNS[-1] else "right")
    for trial in best:
        shown.add_row(*map(Text, cells_of_trial(trial)))
    return Text(about), shown
