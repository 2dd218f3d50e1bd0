"""``gls-es verify``: the command line that the VNN-LIB standard asks of a solver (chapter 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gls_es.errors import ConfigError

from .deadline import Deadline, answer_in_time
from .options import DURATION, config_option, output_options
from .selection import check_targets
from .session import Session

_WORDS = {"timeout": "timed-out"}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class NetworkType(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A network's name in the query and the file that holds it, NAME=FILE."""

    name = "name=file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """The name and the path."""
        if isinstance(value, tuple):
            return value
        name, equals, path = str(value).partition("=")
        if not equals or not name or not path:
            self.fail(f"{str(value)[:60]!r} is not of the form NAME=FILE.", param, ctx)
        return name, Path(path)


@click.command()
@click.argument("query", type=_FILE, required=False)
@click.option(
    "--network",
    "networks",
    type=NetworkType(),
    multiple=True,
    metavar="NAME=FILE",
    help="The query's network, as ONNX.",
)
@click.option(
    "--timeout",
    type=DURATION,
    help="When to say timed-out at the latest; by default never, or as the table of --instances says.",
)
@click.option(
    "--result",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what is printed there, too.",
)
@click.option(
    "--instances",
    type=_FILE,
    metavar="FILE.csv",
    help="Decide a whole benchmark instead: rows of a network, a property and seconds.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Of --instances: a result for each row, and results.json; a run that was stopped goes on.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the attack's starts.")
@config_option()
@output_options
@click.pass_context
def verify(ctx: click.Context, /, query: Path | None, networks: tuple[tuple[str, Path], ...], **options: Any) -> None:
    """Decide QUERY, a VNN-LIB file of version 1 or 2, about a network.

    The first line of standard output is sat, unsat, unknown or timed-out; after sat follows the assignment that fulfils
    the query. The exit code is 0 for each of them, and that of an error if there is no answer.

    With --instances the queries and networks are a table's, and what is printed is a summary.
    """
    session = ctx.ensure_object(Session)
    check_targets(options, "result", read=[query, options["instances"], *(path for _, path in networks)])
    if query is None or options["instances"] is not None:
        _check_instances(query, networks, options)
        from .instances import verify_instances

        verify_instances(
            session, options["instances"], options["out"], timeout=options["timeout"], seed=options["seed"]
        )
        return
    if session.json or options["out"] is not None:
        raise ConfigError(
            "--json and --out belong to --instances; a single answer has the form that the standard says."
        )

    def work(deadline: Deadline) -> tuple[str, str]:
        text = _decided(session, query, networks, deadline, options["seed"])
        return text, text

    def late() -> None:
        click.echo("timed-out")

    seconds, result = options["timeout"], options["result"]
    click.echo(answer_in_time(work, late, seconds=seconds, result=result, word="timed-out"), nl=False)


def _check_instances(query: Path | None, networks: tuple[tuple[str, Path], ...], options: dict[str, Any]) -> None:
    """Refuse what does not go together."""
    if options["instances"] is None:
        raise ConfigError("there is nothing to verify; give QUERY, or --instances FILE.csv --out FOLDER.")
    if query is not None or networks or options["result"] is not None:
        raise ConfigError("--instances names queries, networks and results; leave QUERY, --network and --result out.")
    if options["out"] is None:
        raise ConfigError("--instances needs --out, the folder for results.")


def _decided(
    session: Session, path: Path, networks: tuple[tuple[str, Path], ...], deadline: Deadline, seed: int
) -> str:
    """What is printed."""
    from .output import prepare_libraries

    prepare_libraries(session)
    from gls_es.formats import read_query

    from .answer import answer

    query = read_query(path)
    text = answer(session, query, _file(query, networks), deadline=deadline, seed=seed).text
    word, _, rest = text.partition("\n")
    return f"{_WORDS.get(word, word)}\n{rest}"


def _file(query: Any, networks: tuple[tuple[str, Path], ...]) -> Path:
    """The file of the one network that a query speaks of."""
    if len(networks) != 1:
        raise ConfigError(f"the query speaks of one network, and {len(networks)} are given; give --network NAME=FILE.")
    ((name, path),) = networks
    if query.declared is not None and name != query.declared.network:
        raise ConfigError(f"--network {name}=...: the query's network is called {query.declared.network!r}.")
    if not path.is_file():
        raise ConfigError(f"--network {name}={path}: there is no such file.")
    return path
