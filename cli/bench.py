"""``gls-es bench``: how fast this machine evaluates a problem's fitness, against loops over the members."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .options import EPS, config_option, output_options, problem_option
from .selection import check_targets
from .session import Session

_NOTES = (
    "ratios: time of the loop / time of the population, one thread, in turns in this process.\n"
    "gain of N threads: in ops, inside each operation; shared, over members (gradients: over images)."
)


@click.command()
@problem_option("A name that `gls-es problems` lists, or module:Class.", required=True)
@click.option("--members", type=click.IntRange(min=1), default=64, show_default=True, metavar="P", help="Population.")
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, metavar="B", help="Images.")
@click.option(
    "--method", "methods", multiple=True, metavar="NAME", help="Relaxation, repeatable; default ibp, crown-ibp, crown."
)
@click.option("--eps", type=EPS, help="Radius in pixel units, 0.1 or 8/255; by default the problem's.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Also N threads."
)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, metavar="R", help="Timed rounds.")
@click.option("--backward", is_flag=True, help="Also losses with gradients, as RGS needs them (8 members).")
@click.option("--no-loops", is_flag=True, help="Leave the loops over members out.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of weights and noise.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
)
@click.option("--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1, ...")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Also write the object of --json.",
)
@config_option()
@output_options
@click.pass_context
def bench(ctx: click.Context, /, **options: Any) -> None:
    """Time a problem's fitness evaluation under each relaxation, for a whole population.

    It is compared with evaluating the members one after another: by a plain loop, and by auto_LiRPA where that is
    installed. Without the problem's data it takes random images. docs/performance.md explains the columns.
    """
    session = ctx.ensure_object(Session)
    check_targets(options, "out")
    from gls_es.training.slips import check_slips

    from .output import messages, prepare_libraries, print_json, show

    prepare_libraries(session)
    check_slips(options["methods"])
    found = {"command": _command(ctx), **_measured(options, messages(session))}
    if options["out"] is not None:
        from gls_es.formats import write_text

        write_text(options["out"], json.dumps(found, indent=1) + "\n")
    if session.json:
        print_json(found)
    else:
        show(*_parts(found))


def _measured(options: dict[str, Any], console: Any) -> dict[str, Any]:
    from gls_es import benchmark

    problem = benchmark.open_problem(
        options["problem"],
        eps=options["eps"],
        seed=options["seed"],
        device=options["device"],
        data_root=None if options["data"] is None else str(options["data"]),
    )
    sizes = benchmark.Sizes(
        threads=options["threads"],
        repeats=options["repeats"],
        backward=options["backward"],
        loops=() if options["no_loops"] else benchmark.LOOPS,
        memory_budget=problem.memory_budget,
    )
    return benchmark.benchmark(
        problem,
        options["methods"] or benchmark.METHODS,
        members=options["members"],
        batch=options["batch"],
        sizes=sizes,
        progress=lambda what: console.print(f"timing {what}"),
    )


def _command(ctx: click.Context) -> str:
    """The call with the values it ran with, but for the places of files."""
    words = ["gls-es bench"]
    for param in ctx.command.params:
        value = ctx.params.get(str(param.name))
        if param.name in ("out", "data") or value is None or value is False:
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [param.opts[0] if one is True else f"{param.opts[0]} {one}" for one in values]
    return " ".join(words)


def _parts(found: Mapping[str, Any]) -> list[Any]:
    """What a person sees: the setting, a table of evaluations, one of gradients, what the columns mean."""
    from rich.text import Text

    machine, peaks = found["machine"], found["matmul_gflops"]
    head = (
        f"{found['problem']}: {found['parameters']:,} parameters, {found['members']} members x {found['batch']} images "
        f"({found['images']}), eps = {found['eps']:.6g}\n"
        f"{machine.get('gpu', machine['cpu'])}, {machine['cores']} cores, torch {machine['torch']}; matrix products: "
        + ", ".join(f"{peak:.0f} GFLOP/s with {n} thread{'s' * (n != '1')}" for n, peak in peaks.items())
        + f"; compiled kernels: {found['kernels']}"
    )
    parts = [Text(head), Text(""), _table(found["methods"], "forward")]
    if any("backward" in table for table in found["methods"].values()):
        members = max(table["backward"]["members"] for table in found["methods"].values() if "backward" in table)
        parts += [Text(f"\nlosses and mean gradient of {members} members"), _table(found["methods"], "backward")]
    return [*parts, Text(f"\n{_NOTES}")]


def _table(methods: Mapping[str, Any], kind: str) -> Any:
    from rich.text import Text

    from .output import plain_table

    table = plain_table()
    table.add_column("method")
    rows = {name: _row(each, kind) for name, each in methods.items() if kind in each}
    columns = [c for c in next(iter(rows.values())) if any(row[c] is not None for row in rows.values())]
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(Text(row[column] or "-") for column in columns))
    return table


def _share(fraction: float) -> str:
    """A part of the peak; more than all of it says only that other programs slowed the products down."""
    return f"{100 * fraction:.0f} %" if fraction <= 1.0 else "-"


def _row(method: Mapping[str, Any], kind: str) -> dict[str, str | None]:
    """The cells by column; a column that is None everywhere is left out."""
    found = method[kind]
    threads = found.get("threads", {})
    return {
        "ms": f"{1e3 * found['seconds']:.3g}",
        "images/s": f"{found['member_images_per_second']:,.0f}",
        "GFLOP/s": f"{found['gflops']:.3g}",
        "of peak": _share(found["peak_fraction"]),
        "MiB": f"{found['peak_bytes'] / 2**20:.1f}",
        "plain loop": _times(found.get("plain", {}).get("ratio")),
        "auto_LiRPA": _times(found.get("auto_lirpa", {}).get("ratio")),
        "its default": _times(found.get("auto_lirpa_default", {}).get("ratio")),
        "in ops": _times(threads.get("intra_op_speedup")),
        "shared": _times(threads.get("shared_speedup")),
    }


def _times(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.2f} x"
