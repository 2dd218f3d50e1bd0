"""Which images of a problem a command is about: the options, and the images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from gls_es.basics.plots import check_format
from gls_es.errors import ConfigError

from .options import INDICES

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--split",
        type=click.Choice(("test", "validation", "train")),
        default="test",
        show_default=True,
        help="Which images; validation if the run kept some out of training.",
    ),
    click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="First image."),
    click.option("--limit", type=click.IntRange(min=1), help="How many images; by default all that follow."),
    click.option("--indices", type=INDICES, help="Numbers of images instead, 0:100,205 say."),
    click.option(
        "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds the datasets."
    ),
)


def image_options(command: F) -> F:
    """``--split``, ``--start``, ``--limit``, ``--indices`` and ``--data``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_options(ctx: click.Context) -> dict[str, str]:
    """The options on the command line, by the name of their parameter."""
    return {
        str(param.name): param.opts[0]
        for param in ctx.command.params
        if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE and param.expose_value
    }


def check_selection(ctx: click.Context, options: dict[str, Any]) -> None:
    """Refuse two ways of naming images at once."""
    given = given_options(ctx)
    if options["indices"] is not None and ("start" in given or "limit" in given):
        raise ConfigError("--indices names the images, so --start and --limit do not go with it; leave one out.")


def check_targets(options: dict[str, Any], *names: str, read: Iterable[Path | None] = ()) -> None:
    """Refuse files that cannot be written, are read, or are named twice, and plots of other kinds; before all work.

    Args:
        options: of the command.
        names: of options that name files to write.
        read: files, and folders of runs, that the command reads.
    """
    sources = [path for path in read if path is not None]
    sources += [path / "checkpoint.pt" for path in sources if path.is_dir()]
    taken: dict[Path, str] = {}
    for name in names:
        target: Path | None = options[name]
        if target is None:
            continue
        if name == "plot":
            check_format(target)
        if any(path.exists() and target.exists() and target.samefile(path) for path in sources):
            raise ConfigError(
                f"--{name} {target}: this file is read; writing it would destroy it. Choose another name."
            )
        if target.resolve() in taken:
            raise ConfigError(f"--{name} {target}: --{taken[target.resolve()]} names the same file; choose another.")
        taken[target.resolve()] = name
        if target.exists():
            continue
        if not target.parent.is_dir():
            raise ConfigError(f"--{name} {target}: there is no folder {target.parent}; make it first.")
        if (why := _refusal(target.parent)) is not None:
            raise ConfigError(f"--{name} {target}: cannot be written ({why}); choose another folder.")


def check_run_folder(out: Path) -> None:
    """Refuse the folder of a new run that cannot be made, before the work begins."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    why = _refusal(there) if there.is_dir() else f"{there} is a file"
    if why is not None:
        raise ConfigError(f"--out {out}: cannot be used as a run folder ({why}).")


def _refusal(folder: Path) -> str | None:
    """Why no file can be made in a folder; trying is the one way to know that holds for every user and file system."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def chosen_images(subject: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The chosen images in the network's input shape, their labels, and how they were chosen."""
    split, name = subject.dataset(options["data"]).split(options["split"]), options["split"]
    total = len(split)
    if options["indices"] is not None:
        chosen = list(options["indices"])
        if max(chosen) >= total:
            raise ConfigError(f"--indices {max(chosen)}: the {name} images are numbered 0 to {total - 1}.")
        return *subject.shaped(*split.batch(chosen)), {"split": name, "indices": chosen}
    start = options["start"]
    if start >= total:
        raise ConfigError(f"--start {start}: the {name} images are numbered 0 to {total - 1}.")
    end = total if options["limit"] is None else min(start + options["limit"], total)
    return *subject.shaped(*split.batch(slice(start, end))), {"split": name, "start": start}


def numbers_of(chosen: dict[str, Any], n: int) -> list[int]:
    """The numbers of the images that ``chosen_images`` describes."""
    return list(chosen["indices"]) if "indices" in chosen else list(range(chosen["start"], chosen["start"] + n))
