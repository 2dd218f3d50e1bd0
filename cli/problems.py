"""``gls-es problems``: what can be trained by name."""

from __future__ import annotations

from typing import Any

import click

from .options import output_options
from .session import Session


@click.command()
@output_options
@click.pass_obj
def problems(session: Session) -> None:
    """List the problems that can be trained by name: those of gls-es and those of installed packages."""
    from gls_es import registry

    from .output import messages, prepare_libraries, print_json, results

    prepare_libraries()
    found = registry.available()
    working = {name: info for name, info in found.items() if not info.error}
    for name in sorted(found.keys() - working.keys()):
        messages().print(f"Warning: the problem {name!r} ({found[name].target}) does not load: {found[name].error}")
    if session.json:
        print_json({"problems": [_as_dict(working[name]) for name in sorted(working)]})
    else:
        results().print(_table(working))


def _as_dict(info: Any) -> dict[str, Any]:
    names = ("name", "target", "summary", "parameters", "eps", "data")
    return {name: getattr(info, name, None) for name in names}


def _table(working: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    rows = [_as_dict(working[name]) for name in sorted(working)]
    columns = {"name": "name", "parameters": "parameters", "eps": "eps", "data": "data", "summary": "what it is"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [key for key in columns if any(row[key] is not None for row in rows)]
    for key in shown:
        table.add_column(columns[key], justify="right" if key in ("parameters", "eps") else "left")
    for row in rows:
        table.add_row(*(Text(_cell(row[key])) for key in shown))
    return table


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
