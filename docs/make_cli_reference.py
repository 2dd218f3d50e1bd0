"""Writes docs/cli.md, the reference of every command, from the commands themselves; a test compares the two.

    python docs/make_cli_reference.py

Names, defaults and help texts are taken from the options, not from click's own layout, which changes between versions.
"""

from __future__ import annotations

from pathlib import Path

import click

from gls_es.cli.app import COMMANDS, app

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """\
# Commands

Written by `python docs/make_cli_reference.py`. Every option can also be set by an environment variable
(`GLS_ES_TRAIN_SEED=9` for `gls-es train --seed 9`) or, where a command takes `--config`, in a TOML file. The command
line wins over the environment, and that over the file. Exit codes: 0 done, 1 the work failed or was stopped (the error
says how to go on), 2 the command line is wrong, or a path on it is not there or cannot be written; what differs is said
at the command.
"""


def reference() -> str:
    """The page as text."""
    return "\n".join([INTRODUCTION, _top(), *(_section(name) for name in sorted(COMMANDS))])


def _top() -> str:
    """What stands before a command."""
    help_row = "| `-h, --help` | Show this, or after a command what it does. |  |"  # of no parameter until it is called
    return "\n\n".join(["## gls-es", "`gls-es [OPTIONS] COMMAND ...`", f"{_table(app.params)}\n{help_row}"]) + "\n"


def _section(name: str) -> str:
    with click.Context(app, info_name="gls-es") as ctx:
        command = app.get_command(ctx, name)
    assert command is not None
    arguments = [_argument(p) for p in command.params if isinstance(p, click.Argument)]
    usage = " ".join(["gls-es", name, *arguments, "[OPTIONS]"])
    lines = [f"## gls-es {name}", f"`{usage}`", *_paragraphs(command.help or ""), _table(command.params)]
    return "\n\n".join([*lines, *_paragraphs(command.epilog or "")]) + "\n"


def _table(params: list[click.Parameter]) -> str:
    """The options among the parameters."""
    options = [p for p in params if isinstance(p, click.Option) and not p.hidden]
    rows = [f"| `{_names(option)}` | {_escaped(option.help or '')} | {_default(option)} |" for option in options]
    return "\n".join(["| option | meaning | default |", "|---|---|---|", *rows])


def _paragraphs(text: str) -> list[str]:
    r"""The help's paragraphs; a block that click is told not to rewrap (after a line of \b) becomes a code block."""
    found = []
    for paragraph in text.strip().split("\n\n") if text else ():
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines and lines[0] == "\b":
            found.append("```text\n" + "\n".join(lines[1:]) + "\n```")
        else:
            found.append(" ".join(lines).replace("\f", ""))
    return found


def _argument(argument: click.Argument) -> str:
    choices = "|".join(map(str, argument.type.choices)) if isinstance(argument.type, click.Choice) else ""
    name = argument.metavar or (f"{{{choices}}}" if choices else argument.human_readable_name.upper())
    return name if argument.required else f"[{name}]"


def _names(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {_value(option)}"


def _value(option: click.Option) -> str:
    if option.metavar:
        return _escaped(option.metavar)
    if isinstance(option.type, click.Choice):
        return "\\|".join(map(str, option.type.choices))
    return option.type.name.upper().removesuffix(" RANGE")


def _default(option: click.Option) -> str:
    value = option.to_info_dict().get("default")
    if option.is_flag or value is None or value == () or not option.show_default:
        return ""
    return f"`{value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
