"""``gls-es zoo``: the trained networks that come with gls-es."""

from __future__ import annotations

from typing import Any

import click

from .options import output_options
from .session import Session


@click.command()
@output_options
@click.pass_obj
def zoo(session: Session) -> None:
    """List the trained networks that come with gls-es; a command that takes a checkpoint takes their names.

    The accuracies are those of the first test images at eps, certified by `gls-es certify`.
    """
    from gls_es.zoo import ENTRIES, PREFIX

    from .output import print_json, show

    rows = [
        {
            "name": PREFIX + entry.name,
            "eps": entry.eps,
            "images": entry.images,
            "natural_accuracy": entry.natural,
            "certified_accuracy": entry.certified,
            "made_by": entry.made_by,
            "sha256": entry.sha256,
            "path": str(entry.path),
        }
        for entry in ENTRIES.values()
    ]
    if session.json:
        print_json({"networks": rows})
    else:
        made = [f"{row['name']} was made by: {row['made_by']}" for row in rows]
        show(_table(rows), "", *made)


def _table(rows: list[dict[str, Any]]) -> Any:

    from .output import percent, plain_table, radius

    table = plain_table()
    for column in ("network", "eps", "images", "natural", "certified"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        accuracies = (percent(row["natural_accuracy"]), percent(row["certified_accuracy"]))
        table.add_row(row["name"], radius(row["eps"]), str(row["images"]), *accuracies)
    return table
