"""``gls-es problems``: what can be trained by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import output_options
from .session import Session

_COLUMNS = {
    "name": "name",
    "parameters": "parameters",
    "radii": "eps",
    "data": "data",
    "seconds": "s/generation",
    "summary": "what it is",
}
_RIGHT = ("parameters", "seconds")


@click.command()
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@output_options
@click.pass_obj
def problems(session: Session, data: Path | None) -> None:
    """List the problems that can be trained by name: those of gls-es and those of installed packages.

    It says whether a problem's data are on this machine, and about how long a generation of its recipes takes (pgpe,
    rgs, grad), from counted operations and the measured speed of one matrix product: right to a factor of about three.
    """
    from gls_es.problem import registry

    from .output import messages, prepare_libraries, print_json, show

    prepare_libraries(session)
    found = registry.available(data)
    working = {name: info for name, info in found.items() if not info.error}
    console = messages(session)
    for name in sorted(found.keys() - working.keys()):
        console.print(f"Warning: the problem {name!r} ({found[name].target}) does not load: {found[name].error}")
    speed = _speed()
    rows = [_as_dict(working[name]) | {"seconds": _seconds(working[name], speed)} for name in sorted(working)]
    if session.json:
        print_json({"problems": rows})
        return
    show(_table(rows))
    for missing in dict.fromkeys(row["data_missing"] for row in rows if row["data_missing"]):
        console.print(f"missing: {missing}", soft_wrap=True)


def _as_dict(info: Any) -> dict[str, Any]:
    names = ("name", "target", "summary", "parameters", "eps", "radii", "data", "data_found", "data_missing")
    return {name: getattr(info, name, None) for name in names}


def _speed() -> float:
    """Of matrix products with the threads that training would use."""
    from gls_es.benchmark import cpu_speed

    return cpu_speed()


def _seconds(info: Any, speed: float) -> dict[str, float] | None:
    """About how long a generation takes, by searcher; None where the network or the images are not known."""
    from gls_es.benchmark import recipe_seconds

    return recipe_seconds(info.name, speed=speed)


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.text import Text

    from .output import plain_table

    table = plain_table()
    shown = [key for key in _COLUMNS if any(row[key] is not None for row in rows)]
    for key in shown:
        table.add_column(_COLUMNS[key], justify="right" if key in _RIGHT else "left")
    for row in rows:
        table.add_row(*(Text(_cell(key, row)) for key in shown))
    return table


def _cell(key: str, row: dict[str, Any]) -> str:
    value = row[key]
    if not value:
        return "-"
    if key == "data":
        return f"{value} (missing)" if row["data_missing"] else str(value)
    if key == "radii":
        from .output import radius

        return ", ".join(map(radius, value))
    if key == "seconds":
        return " / ".join(f"{seconds:.2g}" if seconds < 100 else f"{seconds:.0f}" for seconds in value.values())
    return f"{value:,}" if isinstance(value, int) else str(value)
