"""``gls-es doctor``: is this installation in order, and what does it have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .options import output_options
from .session import FAILED, Session

_MARKS = {"ok": "ok", "note": "-", "broken": "BROKEN"}


@click.command()
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@output_options
@click.pass_obj
def doctor(session: Session, /, data: Path | None) -> int:
    """Report versions, devices, arithmetic, data and optional libraries, and run a short self-test.

    Ends with status 1 if something is broken. Nothing is downloaded, started or changed.
    """
    from .output import prepare_libraries, print_json, show

    prepare_libraries(session)
    from gls_es.benchmark.doctor import examine

    found = examine(data)
    broken = [finding.name for finding in found if finding.health == "broken"]
    if session.json:
        print_json({"broken": broken, "findings": [asdict(finding) for finding in found]})
    else:
        show(_table(found))
    return FAILED if broken else 0


def _table(found: Sequence[Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in found:
        advice = f" ({finding.advice})" if finding.advice else ""
        table.add_row(_MARKS[finding.health], finding.name, Text(finding.value + advice))
    return table
