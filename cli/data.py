"""``gls-es data fetch``: the published files of a dataset, into the folder where the problems look for them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .options import output_options
from .progress import INTERVAL
from .session import Session


@click.command()
@click.argument("action", metavar="fetch", type=click.Choice(["fetch"]))
@click.argument("name", metavar="mnist|fashion-mnist|cifar10")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Folder of the datasets; $GLS_ES_DATA, ./data."
)
@click.option("--mirror", metavar="URL", help="Address of a folder that holds the same files.")
@output_options
@click.pass_obj
def data(session: Session, action: str, name: str, data: Path | None, mirror: str | None) -> None:  # noqa: ARG001
    """Fetch a dataset's files that are not there yet, from where they are published.

    Every file has to be the published one to the last byte. A fetch that was stopped goes on where it was. Without a
    network: docs/problems.md says which files to put where.
    """
    from gls_es.data.fetch import fetch
    from gls_es.data.roots import default_root

    from .output import messages, print_json, show

    folder, files = fetch(
        name, default_root() if data is None else data, mirror=mirror, say=_teller(session, messages(session))
    )
    if session.json:
        print_json({"name": name, "folder": str(folder), "fetched": [str(path) for path in files]})
    else:
        show(f"{name}: fetched {len(files)} files; all there in {folder}")


def _teller(session: Session, console: Any) -> Any:
    """A line every few seconds, or nothing."""
    if session.quiet:
        return None
    last = time.monotonic()

    def say(file: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= (0.0 if session.verbose else INTERVAL):
            last = time.monotonic()
            share = f" of {total / 1e6:.1f}" if total else ""
            console.print(f"{file}: {done / 1e6:.1f}{share} MB", soft_wrap=True)

    return say
