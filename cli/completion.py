"""``gls-es completion``: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_INSTALL = {
    "bash": 'add to ~/.bashrc:  eval "$(gls-es completion bash)"',
    "zsh": 'add to ~/.zshrc:   eval "$(gls-es completion zsh)"',
    "fish": "run once:          gls-es completion fish > ~/.config/fish/completions/gls-es.fish",
}


@click.command(epilog="\b\n" + "\n".join(_INSTALL.values()))
@click.argument("shell", type=click.Choice(tuple(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    found = get_completion_class(shell)
    assert found is not None
    script = found(ctx.find_root().command, {}, "gls-es", "_GLS_ES_COMPLETE")
    click.echo(script.source_template % script.source_vars())
