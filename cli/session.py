"""What one call of the command line knows of itself, and how it ends: one message, one exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
from click.core import ParameterSource

from gls_es.errors import ConfigError, GlsEsError

FAILED = 1
WRONG_USAGE = 2


@dataclass
class Session:
    """The switches that every command has.

    Attributes:
        json: print one JSON object on standard output, and people's text on standard error.
        quiet: nothing on standard error but errors.
        verbose: more on standard error: what libraries log, and every step of the work.
        debug: show the traceback of whatever goes wrong.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    @classmethod
    def of_arguments(cls, arguments: Sequence[str]) -> Session:
        """What is known before the arguments are parsed, so that a parsing error too is reported as asked for."""
        own = arguments[: arguments.index("--")] if "--" in arguments else arguments
        return cls(json="--json" in own)

    def run(self, command: Callable[[], object]) -> int:
        """Call a command and turn however it ends into an exit code; nothing but the exit code comes out."""
        try:
            try:
                result = command()
                sys.stdout.flush()
            except Exception as error:
                return self._report(error)
        except OSError:  # of the reporting itself: nobody reads, or nothing more can be written
            return _reader_is_gone()
        return result if type(result) is int else 0

    def _report(self, error: Exception) -> int:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            return _reader_is_gone()
        if self.debug:
            traceback.print_exception(error)
        if isinstance(error, click.ClickException):
            _name_source(error)
            error.show()
            self._say_json(error.format_message())
            return error.exit_code
        message = _message(error)
        click.echo(f"Error: {message}", err=True)
        self._say_json(message)
        return WRONG_USAGE if isinstance(error, ConfigError) else FAILED

    def _say_json(self, message: str) -> None:
        if self.json:
            click.echo(json.dumps({"error": message}))
            sys.stdout.flush()


def _name_source(error: click.ClickException) -> None:
    """Say where a value comes from that is not on the command line, where a user would look for it in vain."""
    ctx, param = getattr(error, "ctx", None), getattr(error, "param", None)
    if not isinstance(error, click.BadParameter) or ctx is None or param is None:
        return
    source = ctx.get_parameter_source(str(param.name))
    if source is ParameterSource.ENVIRONMENT:
        variable = f"{ctx.auto_envvar_prefix}_{str(param.name).upper()}"
        error.param_hint = f"the environment variable {variable} ({param.opts[-1]})"
    elif source is ParameterSource.DEFAULT_MAP:
        error.param_hint = f"{param.opts[-1]} in the file of --config"


def _message(error: Exception) -> str:
    if isinstance(error, GlsEsError):
        return str(error)
    if isinstance(error, click.Abort):
        return "stopped before the work was done; the same command starts it again."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}could not be read or written ({error.strerror or error})."
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({what}); take smaller batches or a smaller population."
    return f"internal error: {what} (gls-es --debug COMMAND ... shows the traceback)"


def _reader_is_gone() -> int:
    """Whoever read the output has stopped; Python would complain once more when it flushes at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is closed or is no file
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return FAILED
