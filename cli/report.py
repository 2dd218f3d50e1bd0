"""``gls-es report``: one HTML file about one run or several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gls_es.errors import GlsEsError

from .options import RUN, output_options, problem_option
from .selection import check_targets
from .session import Session


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RUN, metavar="RUN...")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
    help="By default report.html in the first run's folder.",
)  # fmt: skip
@click.option("--each", type=click.IntRange(min=0), default=8, show_default=True, help="Images shown per verdict.")
@problem_option("The problem of the runs, where they name a file.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@output_options
@click.pass_obj
def report(session: Session, /, runs: tuple[Path, ...], **options: Any) -> None:
    """Write one self-contained HTML file about the runs in RUN...: curves, verdicts, images, settings.

    Verdicts are those of every file that `gls-es certify --out RUN/NAME.jsonl` wrote into the run's folder. The folders
    of single runs that `gls-es reproduce` leaves are taken, too.
    """
    options["out"] = out = options["out"] or runs[0] / "report.html"
    check_targets(options, "out", read=runs)
    from .output import messages, prepare_libraries, print_json

    prepare_libraries(session)
    from gls_es.report import Records, RunData, read_runs, write_report

    def images(run: RunData, records: Records) -> Any:
        return _images(session, run, records, options)

    found = read_runs(runs)
    write_report(found, out, images=images, each=options["each"])
    if session.json:
        counts = [{"run": str(run.path), "records": [r.counts for r in run.records]} for run in found]
        print_json({"report": str(out), "runs": counts})
    else:
        messages(session).print(f"written: {out}", soft_wrap=True)


def _images(session: Session, run: Any, records: Any, options: Mapping[str, Any]) -> Any:
    """The images that were certified, if they are the first held-out ones of the run's problem; else None."""
    from gls_es import training
    from gls_es.certification.identity import data_digest

    from .output import messages

    try:
        trained = training.load_trained(run.path / "checkpoint.pt", problem=options["problem"])
        images, labels = trained.dataset(options["data"]).test.batch(slice(0, records.header["n"]))
    except GlsEsError as error:
        messages(session).print(f"Warning: no images of {run.name}: {error}", soft_wrap=True)
        return None
    if data_digest(images, labels) != records.header["data"]:
        why = "it is not about the first held-out ones"
        messages(session).print(f"Warning: no images for {records.path}: {why}.", soft_wrap=True)
        return None
    return images
