"""``gls-es completion``: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .options import output_options
from .session import Session

_INSTALL = {
    "bash": 'add to ~/.bashrc:  eval "$(gls-es completion bash)"',
    "zsh": 'add to ~/.zshrc:   eval "$(gls-es completion zsh)"',
    "fish": "run once:          gls-es completion fish > ~/.config/fish/completions/gls-es.fish",
}


@click.command(epilog="\b\n" + "\n".join(_INSTALL.values()))
@click.argument("shell", type=click.Choice(tuple(_INSTALL)))
@output_options
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    found = get_completion_class(shell)
    assert found is not None
    script = found(ctx.find_root().command, {}, "gls-es", "_GLS_ES_COMPLETE")
    text = script.source_template % script.source_vars()
    if ctx.ensure_object(Session).json:
        from .output import print_json

        print_json({"shell": shell, "script": text})
    else:
        click.echo(text)
