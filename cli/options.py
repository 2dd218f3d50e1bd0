"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import click

from gls_es.basics.suggestions import ending

from .session import Session

F = TypeVar("F", bound=Callable[..., Any])

_NUMBER = re.compile(
    r"[+-]?(\d{1,30}/\d{1,30}|(\d{1,30}\.?\d{0,30}|\.\d{1,30})(e[+-]?\d{1,3})?)", re.IGNORECASE | re.ASCII
)
_BYTES = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s?([KMGT])?(?:i?B)?", re.IGNORECASE | re.ASCII)
_RANGE = re.compile(r"(\d{1,9})(?::(\d{1,9}))?", re.ASCII)
_DIGEST = re.compile("@sha256:[0-9a-f]*$", re.IGNORECASE)
_MOST_IMAGES = 10_000_000
_TABLES = "gls_es.tables"  # key in the context's meta: nested tables of the configuration file
_NOT_IN_FILES = frozenset({"config", "help", "resume"})
_NOTES = frozenset({"versions"})  # what a run's own config.toml says besides its settings


class EpsType(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A radius in [0, 1], in units of the pixels before normalisation: 0.1, 1e-2, or exactly 8/255."""

    name = "eps"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The radius as the float nearest to what was written."""
        text = str(value).strip()
        if not _NUMBER.fullmatch(text):
            self.fail(f"{text[:40]!r} is not a number; write 0.1 or 8/255.", param, ctx)
        try:
            eps = Fraction(text)
        except ZeroDivisionError:
            self.fail(f"{text!r} divides by zero; write 0.1 or 8/255.", param, ctx)
        if eps < 0:
            self.fail(f"{text} is negative; the radius lies in [0, 1].", param, ctx)
        if eps > 1:
            hint = f"; did you mean {text}/255?" if eps <= 255 and "/" not in text else "."
            self.fail(f"{text} is more than 1, and pixels lie in [0, 1]{hint}", param, ctx)
        if eps and not float(eps):
            self.fail(f"{text[:40]} is less than any float is; write 0, or more.", param, ctx)
        return float(eps)


class RadiiType(EpsType):
    """The same; or a list of radii for channels or pixels, [0.1, 0.1, 0], as the file of such a run has it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The radius; a list as it is: whether it fits the images is seen with them."""
        text = str(value).strip()
        if not text.startswith("["):
            return super().convert(value, param, ctx)
        try:
            return tomllib.loads(f"eps = {text}")["eps"]
        except tomllib.TOMLDecodeError:
            self.fail(f"{text[:40]!r} is no list of radii; write [0.1, 0.1, 0].", param, ctx)


class SettingType(click.ParamType):  # type: ignore[type-arg]  # as above
    """A hyper-parameter and its value, KEY=VALUE; the value is read as TOML, and what is not TOML is text."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """The key and the value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            self.fail(f"{value!r} is not of the form KEY=VALUE; write popsize=64, say.", param, ctx)
        try:
            table = tomllib.loads(f"value = {text.strip()}")
        except tomllib.TOMLDecodeError:
            table = {}
        return key, table["value"] if list(table) == ["value"] else text.strip()


class BytesType(click.ParamType):  # type: ignore[type-arg]  # as above
    """An amount of memory: a number of bytes, or one with a unit of powers of 1024, 512M or 2G say."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        match = _BYTES.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{str(value)[:40]!r} is not an amount of memory; write 512M or 2G.", param, ctx)
        number, unit = match.groups()
        return int(Fraction(number) * 1024 ** ("KMGT".index(unit.upper()) + 1 if unit else 0))


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class DurationType(click.ParamType):  # type: ignore[type-arg]  # as above
    """A time: 90, 90s, 30m, 2h or 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        text = str(value).strip()
        found = re.fullmatch(r"(\d{1,9}(?:\.\d*)?(?:e-\d{1,2})?|\.\d+)([smhd]?)", text)
        if found is None or float(found[1]) == 0:
            self.fail(f"{text[:40]!r} is no time; write 90s, 30m or 2h.", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class KeepType(click.ParamType):  # type: ignore[type-arg]  # as above
    """How many checkpoints are kept, or "best"."""

    name = "keep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or the word."""
        text = str(value).strip()
        if text == "best" or re.fullmatch(r"\d{1,9}", text):
            return text if text == "best" else int(text)
        self.fail(f"{text[:40]!r} is neither a number of checkpoints nor best.", param, ctx)


class IndicesType(click.ParamType):  # type: ignore[type-arg]  # as above
    """Numbers of images and ranges without their ends, as Python has them: 0:100,205."""

    name = "indices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, in the order given."""
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        for part in str(value).split(","):
            match = _RANGE.fullmatch(part.strip())
            if match is None:
                self.fail(f"{part.strip()[:40]!r} is no number and no range; write 0:100,205.", param, ctx)
            first, last = int(match[1]), int(match[1]) + 1 if match[2] is None else int(match[2])
            if last <= first:
                self.fail(f"{part.strip()!r} holds no image; the end of a range is not part of it.", param, ctx)
            if last > _MOST_IMAGES:
                self.fail(f"{part.strip()!r} is beyond any dataset.", param, ctx)
            found += range(first, last)
        if len(set(found)) < len(found):
            self.fail("an image is named twice.", param, ctx)
        return tuple(found)


class NamesType(click.ParamType):  # type: ignore[type-arg]  # as above
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, in the order given."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{str(value)[:60]!r} has an empty name; write attack,ibp,crown.", param, ctx)
        return names


class CheckpointType(click.Path):
    """An existing file, a run folder with a checkpoint in it, or a network of the zoo: zoo:NAME."""

    name = "checkpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a zoo network's is inside the package."""
        if str(value).startswith("zoo:"):
            from gls_es.zoo import located

            value = located(value)
        if Path(value).is_dir():
            from gls_es.training.names import in_run

            inside = in_run(Path(value))
            if inside is None:
                hint = "a folder without checkpoint.pt, so no run; name a checkpoint"
                self.fail(f"{str(value)!r} is {hint}.", param, ctx)
            value = inside
        return super().convert(value, param, ctx)


class StartType(CheckpointType):
    """A file of weights to begin with: as a checkpoint, or FILE@sha256:DIGEST."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, whose file is there."""
        text = str(value)
        digest = _DIGEST.search(text)
        found = super().convert(_DIGEST.sub("", text), param, ctx)
        elsewhere = text.startswith("zoo:") or Path(text).is_dir()
        return f"{found}{digest[0] if digest else ''}" if elsewhere else text


CHECKPOINT = CheckpointType(exists=True, dir_okay=False, path_type=Path)
START = StartType(exists=True, dir_okay=False)
RUN = click.Path(exists=True, file_okay=False, path_type=Path)
DURATION = DurationType()
EPS = EpsType()
RADII = RadiiType()
KEEP = KeepType()
SETTING = SettingType()
BYTES = BytesType()
INDICES = IndicesType()
NAMES = NamesType()


def problem_option(help_text: str, *, required: bool = False) -> Callable[[F], F]:
    """``--problem NAME``: a name that nothing has is refused before torch is imported, which takes seconds.

    Args:
        help_text: what the problem is for.
        required: whether it must be given.
    """

    def check(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
        if value is not None and not ctx.resilient_parsing:
            from gls_es.problem import registry

            registry.check_name(value)
        return value

    return click.option("--problem", required=required, metavar="NAME", callback=check, help=help_text)


def config_tables(ctx: click.Context) -> dict[str, dict[str, Any]]:
    """The nested tables of the file given with ``--config``, by name."""
    tables: dict[str, dict[str, Any]] = ctx.meta.get(_TABLES, {})
    return tables


def config_option(*tables: str) -> Callable[[F], F]:
    """``--config FILE``: defaults of the command's options from TOML; the command line and the environment win.

    Args:
        tables: names of nested tables that the command takes, too.
    """

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None:
            _use_file(ctx, param, Path(value), tables)

    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=read,
        help="TOML file with values for these options"
        + "".join(f", and a table [{name}]" for name in tables)
        + "; the command line wins.",
    )


def output_options(command: F) -> F:
    """``--json``, ``--quiet``, ``--verbose`` and a hidden ``--debug``, which set the session."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        session = ctx.ensure_object(Session)
        if value or param.name != "debug":
            setattr(session, str(param.name), value)
        if session.quiet and session.verbose:
            raise click.UsageError("--quiet and --verbose contradict each other; leave one out", ctx)

    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Nothing on standard error but errors.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="More on standard error: every step, and what libraries log.",
    )
    as_json = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=remember,
        help="Print one JSON object on standard output.",
    )
    # It stands before the command in the help, but whoever adds it to a command that failed puts it at the end.
    debug = click.option("--debug", is_flag=True, expose_value=False, hidden=True, callback=remember)
    return as_json(quiet(verbose(debug(command))))


def _use_file(ctx: click.Context, param: click.Parameter, path: Path, tables: tuple[str, ...]) -> None:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {error}", ctx, param) from None
    options = {
        option.lstrip("-").replace("-", "_"): other
        for other in ctx.command.params
        if isinstance(other, click.Option) and other.name not in _NOT_IN_FILES
        for option in other.opts
        if option.startswith("--")
    }
    defaults: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name in tables:
            if not isinstance(value, dict):
                raise click.BadParameter(f"{path}: {key!r} is a table, [{key}], not {value!r}", ctx, param)
            ctx.meta.setdefault(_TABLES, {})[name] = value
        elif name in options:
            defaults[str(options[name].name)] = _default(ctx, param, options[name], path, key, value)
        elif name not in _NOTES:
            hint = ending(name, [*options, *tables], f"; this command knows {', '.join(sorted(options))}.")
            raise click.BadParameter(f"{path}: unknown key {key!r}{hint}", ctx, param)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _default(
    ctx: click.Context, param: click.Parameter, option: click.Option, path: Path, key: str, value: Any
) -> str | list[str]:
    """The value as it would be typed, so that the option's own type judges it: int(1.5) would be 1 without a word."""
    values = value if isinstance(value, list) and option.multiple else [value]
    plain = dict if isinstance(option.type, RadiiType) else dict | list
    if any(isinstance(one, plain) for one in values):
        raise click.BadParameter(f"{path}: {key!r} takes a plain value, not {value!r}", ctx, param)
    texts = [str(one) for one in values]
    return texts if option.multiple else texts[0]
