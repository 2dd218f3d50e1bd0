"""``gls-es``: a group of commands that are imported only when they run."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

import gls_es
from gls_es.basics.suggestions import ending

from .session import Session

COMMANDS = {
    "bench": ("gls_es.cli.bench:bench", "Time a problem's fitness evaluation on this machine."),
    "certify": ("gls_es.cli.certify:certify", "Certify a network on held-out images."),
    "completion": ("gls_es.cli.completion:completion", "Print a shell's completion script."),
    "data": ("gls_es.cli.data:data", "Fetch a dataset from where it is published."),
    "doctor": ("gls_es.cli.doctor:doctor", "Check this installation."),
    "export": ("gls_es.cli.export:export", "Write a network as ONNX or safetensors, and specifications."),
    "landscape": ("gls_es.cli.landscape:landscape", "Show how rough the loss is around trained weights."),
    "new": ("gls_es.cli.new:new", "Write a file with a problem of your own to begin with."),
    "problems": ("gls_es.cli.problems:problems", "List the problems that can be trained by name."),
    "report": ("gls_es.cli.report:report", "Write an HTML page about runs."),
    "reproduce": ("gls_es.cli.reproduce:reproduce", "Run the paper's comparison, as far as the time goes."),
    "supports": ("gls_es.cli.supports:supports", "Say what can be verified."),
    "train": ("gls_es.cli.train:train", "Train a network, or continue a run."),
    "tune": ("gls_es.cli.tune:tune", "Search for hyper-parameters on images kept out of training."),
    "verify": ("gls_es.cli.verify:verify", "Decide a VNN-LIB query."),
    "zoo": ("gls_es.cli.zoo:zoo", "List the trained networks that come with gls-es."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports them one by one.

    Args:
        lazy: {name: ("module:attribute", "one-line help")}.
        arguments: what click.Group takes.
    """

    def __init__(self, *, lazy: Mapping[str, tuple[str, str]], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command called ``cmd_name``."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.lazy[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command the arguments begin with, and say which one may have been meant."""
        if not ctx.resilient_parsing and args and not args[0].startswith("-") and args[0] not in self.lazy:
            names = self.list_commands(ctx)
            hint = ending(args[0], names, f"; choose from {', '.join(names)}.")
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the help without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.lazy[name][1]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name, or the group's options, without importing anything."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=self.lazy[name][1]) for name in names]


class App(LazyGroup):
    """The top of the command line: whatever happens below becomes one message and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; see click.Command.main. Standalone, it ends the process with the exit code."""
        arguments = sys.argv[1:] if args is None else list(args)
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        session = Session.of_arguments(arguments)
        extra["obj"] = session

        def command() -> Any:
            return super(App, self).main(arguments, prog_name, complete_var, standalone_mode=False, **extra)

        sys.exit(session.run(command))


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Session).debug = value


def _say_name(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo("gls-es")
        ctx.exit()


@click.group(
    cls=App,
    lazy=COMMANDS,
    name="gls-es",
    context_settings={"auto_envvar_prefix": "GLS_ES", "help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(gls_es.__version__, package_name="gls-es", message="%(version)s")
@click.option(
    "--name",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_say_name,
    help="Show the program's name and exit.",
)
@click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_set_debug, help="Show tracebacks of errors."
)
def app() -> None:
    """Train neural networks whose robustness is provable, by evolution strategies, and certify them.

    A first run: gls-es train --problem digits-cnn3 --out run, then gls-es certify run/checkpoint.pt
    """


def main(args: Sequence[str] | None = None, *, prog_name: str = "gls-es") -> None:
    """Run ``gls-es`` and end the process: status 0 done, 1 failed or stopped, 2 wrong usage.

    Args:
        args: the arguments; None means those of the process.
        prog_name: the name in messages.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):  # a terminal that lacks a letter must not end a run
                stream.reconfigure(errors="backslashreplace")
    atexit.register(gc.freeze)  # Python looks for cycles once more at the very end: seconds with torch and evotorch
    logging.captureWarnings(True)  # so that --quiet and --verbose decide on them, too
    app.main(args=args, prog_name=prog_name)
