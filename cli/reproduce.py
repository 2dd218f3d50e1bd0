"""``gls-es reproduce``: the paper's comparison, as far as this machine's time goes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from gls_es.basics.suggestions import named
from gls_es.errors import ConfigError

from .options import DURATION, SETTING, config_option, output_options
from .progress import image_progress
from .selection import check_run_folder, check_targets
from .session import FAILED, Session


@click.command()
@click.argument("table", required=False)
@click.option(
    "--only", "cells", multiple=True, metavar="CELL",
    help="A cell of the table, with * for anything; may be repeated; also runs what they start from. By default the "
    "paper's comparison and the baselines.",
)  # fmt: skip
@click.option("--list", "listed", is_flag=True, help="Print the cells of TABLE, and run nothing.")
@click.option("--seeds", type=click.IntRange(1, 1000), help="Runs per cell; by default 3.")
@click.option("--limit", type=click.IntRange(min=1), help="Images to certify; by default 1000.")
@click.option(
    "--budget",
    type=DURATION,
    help="Time for everything, about: 30m or 2h, say. 3/4 are shared by all trainings; seeds, baselines and images "
    "that do not fit are left out.",
)
@click.option(
    "--train-time", type=DURATION, help="Planned training of each run instead; by default as the table's recipes say."
)
@click.option(
    "--full", is_flag=True,
    help="The table at full length: every cell until its schedule's end, on the same number of images; results go to "
    "FOLDER/TABLE-full.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
    help="Processes that share the runs, and the cores.",
)  # fmt: skip
@click.option("--timeout", type=DURATION, help="Of the search in certification, for each image; by default 2s.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@click.option("--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1, ...")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default="results", show_default=True, metavar="FOLDER",
    help="Results go to FOLDER/TABLE.",
)  # fmt: skip
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.md", help="Also write the table here."
)
@click.option(
    "--collect",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Also write all results here.",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png",
    help="Also draw certified against natural accuracy, and over σ, here.",
)  # fmt: skip
@click.option(
    "--validation", type=click.IntRange(min=0), metavar="N",
    help="Keep N training images out, and certify those instead of test images: for choosing settings.",
)  # fmt: skip
@click.option("--set", "settings", type=SETTING, multiple=True, help="A hyper-parameter of all runs; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, after measuring it, and write nothing.")
@click.option("--no-run", is_flag=True, help="Run nothing: show, and write, the results that are there.")
@config_option()
@output_options
@click.pass_context
def reproduce(ctx: click.Context, /, table: str | None, **options: Any) -> int:
    """Run TABLE's cells, what is missing of them, and print mean, deviation and n beside the published numbers.

    Those are the paper's comparison and the baselines; --list also shows further ones, which run if --only names them.
    Below them stand the differences to the best cell with gradients, on the same images under the same seeds.

    Without TABLE the tables are listed. A run that was stopped goes on; several processes may share one folder. Options
    of the runs that are not given are as in the folder's plan.json, once it is there. A run that fails does not stop
    the others; the exit code is 1 then.
    """
    from .output import messages, prepare_libraries, print_json, show

    session: Session = ctx.obj
    prepare_libraries(session)
    from gls_es import experiments
    from gls_es.formats import write_text

    tables = experiments.FULL if options["full"] else experiments.TABLES
    if table is None:
        _list(tables, session)
        return 0
    chosen = named(tables, table, "there is no table")
    _check_full(options)
    names = chosen.chosen(options["cells"])
    if options["listed"]:
        _list_cells(chosen, names if options["cells"] else chosen.cell_names, session)
        return 0
    check_targets(options, "markdown", "collect", "plot")
    folder: Path = options["out"] / chosen.name
    console = messages(session)
    if options["no_run"]:
        _check_no_run(ctx)
        plan, outcome = experiments.read_plan(chosen, folder), experiments.Outcome()
        names = names if options["cells"] else ()  # without a choice, those that have a result
    else:
        plan, outcome = _run(chosen, folder, options, session, console)
    found = experiments.read_results(folder)
    planned = set(names) & plan.generations.keys()
    rows = [row for row in experiments.aggregate(chosen, found) if row.n or row.cell.name in planned]
    differences = [c for c in experiments.compare(chosen, found) if c.cell in {row.cell.name for row in rows}]
    if options["markdown"] is not None:
        write_text(options["markdown"], experiments.markdown(chosen, plan, rows, differences))
    if options["plot"] is not None:
        experiments.save_table(rows, options["plot"], title=chosen.title)
    if options["collect"] is not None:
        text = json.dumps({"plan": plan.to_json(), "results": found}, indent=1)
        write_text(options["collect"], text + "\n")
    if session.json:
        told = {"failed": outcome.failed, "missing": outcome.missing}
        told |= {"differences": [comparison.to_json() for comparison in differences]}
        print_json({"table": chosen.name, "plan": plan.to_json(), "rows": [row.to_json() for row in rows], **told})
    else:
        show(_table(chosen, plan, rows, dry=options["dry_run"]), *_differences(differences))
    return _end(outcome, console)


def _check_no_run(ctx: click.Context) -> None:
    """Refuse options that say how runs are to be, beside --no-run."""
    for param in ctx.command.params:
        given = ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.COMMANDLINE
        if given and param.name in _OF_RUNS:
            raise ConfigError(f"--no-run shows what is there, as it was planned; leave {param.opts[0]} out.")


def _check_full(options: dict[str, Any]) -> None:
    """Refuse a time beside --full, which settles how long runs are."""
    for name in ("budget", "train_time"):
        if options["full"] and options[name] is not None:
            option = "--" + name.replace("_", "-")
            raise ConfigError(f"--full trains every cell to its schedule's end; leave {option} out, or --full.")


_OF_RUNS = ("seeds", "limit", "budget", "train_time", "timeout", "validation", "settings", "dry_run", "jobs")


def _run(table: Any, folder: Path, options: dict[str, Any], session: Session, console: Any) -> tuple[Any, Any]:
    """Make the plan, or go on with the one that is there, and run it unless this is a dry run."""
    from gls_es import experiments

    if not options["dry_run"]:
        check_run_folder(folder)
    same = {
        "cells": options["cells"],
        "data_root": options["data"],
        "device": options["device"],
        "say": lambda line: console.print(line, soft_wrap=True),
    }
    plan = experiments.make_plan(
        table, folder, seeds=options["seeds"], limit=options["limit"], budget=options["budget"],
        train_seconds=options["train_time"], timeout=options["timeout"], validation=options["validation"],
        settings=dict(options["settings"]), keep=not options["dry_run"], **same,
    )  # fmt: skip
    if options["dry_run"]:
        return plan, experiments.Outcome()
    now = dataclasses.replace(plan, seeds=plan.seeds[: options["seeds"]])  # the folder's plan may have more
    if options["jobs"] > 1:
        return plan, experiments.run_in_processes(table, now, folder, count=options["jobs"], **same)
    return plan, experiments.run_plan(table, now, folder, **_shown(session, console), **same)


def _end(outcome: Any, console: Any) -> int:
    """Say what the table lacks; the exit code."""
    if outcome.missing:
        console.print(
            f"{outcome.missing} of {outcome.total} runs are missing, other processes work on them.", soft_wrap=True
        )
    if not outcome.failed:
        return 0
    reasons = "".join(f"\n  {name}: {why}" for name, why in outcome.failed.items())
    click.echo(f"Error: {len(outcome.failed)} of {outcome.total} runs failed:{reasons}", err=True)
    return FAILED


def _shown(session: Session, console: Any) -> dict[str, Any]:
    """What shows training and certification at work."""
    from gls_es.training.progress import make_progress

    return {
        "progress": lambda: make_progress(console, quiet=session.quiet, verbose=session.verbose),
        "certifying": lambda: image_progress(console, session, "certifying"),
    }


def _list(tables: Any, session: Session) -> None:
    from .output import plain_table, print_json, show

    if session.json:
        print_json({"tables": [{"name": n, "title": t.title, "cells": list(t.cell_names)} for n, t in tables.items()]})
        return
    shown = plain_table()
    for name in ("table", "what it is", "cells"):
        shown.add_column(name)
    for key, table in tables.items():
        shown.add_row(key, table.title, str(len(table.cells)))
    show(shown)


def _list_cells(table: Any, names: Any, session: Session) -> None:
    from rich.text import Text

    from .output import plain_table, print_json, show

    cells = [table.cell(name) for name in names]
    if session.json:
        fields = ("name", "searcher", "method", "start", "kind", "settings")
        print_json({"table": table.name, "cells": [{name: getattr(c, name) for name in fields} for c in cells]})
        return
    shown = plain_table()
    for name in ("cell", "kind", "searcher", "method", "starts from", "settings over the problem's recipe"):
        shown.add_column(name)
    for cell in cells:
        settings = ", ".join(f"{name}={value}" for name, value in cell.settings.items())
        about = (cell.name, cell.kind, cell.searcher, cell.method, cell.start or "-", settings or "-")
        shown.add_row(*map(Text, about))
    show(shown)


def _table(table: Any, plan: Any, rows: Any, *, dry: bool) -> Any:
    from rich.text import Text

    from gls_es.experiments.aggregate import cells_of

    from .output import plain_table

    shown = plain_table(
        f"{table.title}, at most the first {plan.limit} {'validation' if plan.validation else 'test'} images, %"
    )
    for name in ("cell", "natural", "adversarial", "certified", "unknown", "n", "generations", "CPU s", "paper"):
        shown.add_column(name, justify="left" if name == "cell" else "right")
    for row in rows:
        cells = cells_of(row)
        if dry and row.n == 0:
            cells[6] = str(plan.generations.get(row.cell.name, "-"))
        shown.add_row(*map(Text, cells))
    return shown


def _differences(differences: Any) -> list[Any]:
    """The differences to the best cell with gradients as a table below the other; none without any."""
    from rich.text import Text

    from gls_es.experiments.aggregate import DIFFERENCE_COLUMNS, cells_of_difference, differences_title

    from .output import plain_table

    if not differences:
        return []
    shown = plain_table()
    for name in DIFFERENCE_COLUMNS:
        shown.add_column(name, justify="left" if name == "cell" else "right")
    for found in differences:
        shown.add_row(*map(Text, cells_of_difference(found)))
    return [Text(""), Text(differences_title(differences) + "."), shown]
