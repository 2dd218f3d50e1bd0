"""``gls-es landscape``: the loss along lines through a trained network's weights, raw and smoothed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gls_es.errors import ConfigError

from .options import CHECKPOINT, EPS, config_option, output_options, problem_option
from .selection import check_targets
from .session import Session

_COLUMNS = {
    "method": "relaxation",
    "jumps": "jumps",
    "largest_jump": "largest jump",
    "range": "range",
    "variation": "variation",
    "minima": "local minima",
    "sensitivity": "sensitivity",
}


@click.command()
@click.argument("checkpoint", type=CHECKPOINT)
@problem_option("The problem it was trained on, where the checkpoint names a file.")
@click.option("--eps", type=EPS, help="Radius in pixel units, 0.1 or 8/255; by default the stored one.")
@click.option("--images", type=click.IntRange(min=1), default=32, show_default=True, help="The loss is their mean.")
@click.option(
    "--method", "methods", multiple=True, metavar="NAME", help="Relaxation, repeatable; default ibp, crown-ibp, crown."
)
@click.option(
    "--direction", "directions", multiple=True, type=click.Choice(("random", "gradient")), help="Default: both."
)
@click.option(
    "--sigma", "sigmas", multiple=True, type=click.FloatRange(min=0, min_open=True), help="Default: 0.01 and 0.03."
)
@click.option(
    "--span", type=click.FloatRange(0, 10, min_open=True), default=0.2, show_default=True,
    help="How far to go either way; 1 is the norm of the weights.",
)  # fmt: skip
@click.option("--points", type=click.IntRange(3, 100_000), default=101, show_default=True, help="Per line.")
@click.option("--samples", type=click.IntRange(2, 100_000), default=32, show_default=True, help="Per smoothed point.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of direction and noise.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png", help="Picture: .png, .svg or .pdf."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.json", help="Also write what --json prints."
)
@config_option()
@output_options
@click.pass_obj
def landscape(session: Session, /, checkpoint: Path, **options: Any) -> None:
    """Show how rough each relaxation's loss is around the weights in CHECKPOINT, and what smoothing makes of it.

    docs/concepts.md explains the columns. The images are the first held-out ones.
    """
    check_targets(options, "plot", "out", read=[checkpoint])
    from gls_es.training.slips import check_slips

    from .output import messages, prepare_libraries, print_json, show

    prepare_libraries(session)
    check_slips(options["methods"])
    from gls_es import landscape as library
    from gls_es import training
    from gls_es.basics.threads import whole_operations
    from gls_es.formats import write_text
    from gls_es.landscape.plot import save_plot

    trained = training.load_trained(checkpoint, problem=options["problem"])
    if not trained.problem.perturbation.plain:
        raise ConfigError("landscape knows L∞ balls with one radius for all pixels, and this problem has others.")
    images, labels = trained.dataset(options["data"]).test.batch(slice(0, options["images"]))
    console = messages(session)
    given = {name: options[name] for name in ("methods", "directions", "sigmas") if options[name]}
    with whole_operations():
        found = library.survey(
            trained.network, images, labels, trained.eps if options["eps"] is None else options["eps"],
            span=options["span"], points=options["points"], samples=options["samples"], seed=options["seed"],
            say=console.print, **given,
        )  # fmt: skip
    table = {"checkpoint": str(checkpoint), "problem": trained.problem_name, **found.to_json()}
    if options["plot"] is not None:
        save_plot(found, options["plot"])
        console.print(f"written: {options['plot']}", soft_wrap=True)
    if options["out"] is not None:
        write_text(options["out"], json.dumps(table) + "\n")
    if session.json:
        print_json(table)
    else:
        show(*_tables(found))


def _tables(found: Any) -> list[Any]:
    from rich.table import Table

    shown = []
    for direction, rows in found.statistics.items():
        table = Table(title=f"{direction} direction", title_justify="left", box=None, pad_edge=False)
        for key, name in _COLUMNS.items():
            table.add_column(name, justify="left" if key == "method" else "right")
        for row in rows:
            table.add_row(*(_cell(getattr(row, key)) for key in _COLUMNS))
        shown.append(table)
    return shown


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
