"""``gls-es supports``: what can be verified, as the VNN-LIB standard asks for it (chapter 5.4)."""

from __future__ import annotations

from typing import Any

import click

from gls_es.errors import ConfigError

_HELP = {
    "onnx-opset-versions": "Oldest and newest version of ONNX's operators.",
    "onnx-element-types": "Element types of networks.",
    "onnx-operators": "Operators of networks.",
    "vnnlib-versions": "Oldest and newest version of VNN-LIB.",
    "hidden-node-theories": "NH: queries without hidden nodes.",
    "multiple-input-output-theories": "SIO, MIO: one or several inputs and outputs.",
    "multiple-network-theories": "SNET: queries about one network.",
    "multiple-node-comparison-theories": "SNC, MNC: comparisons within one node or between several.",
    "arithmetic-complexity-theories": "BND, OUTC, LIN: bounds, compared outputs, linear terms.",
    "optimised-disjunctive-reasoning": "Whether disjunctions are more than cases one by one.",
    "serialise-assignments": "Whether assignments can be written as files of tensors.",
}


def _options(command: Any) -> Any:
    for name, text in reversed(_HELP.items()):
        command = click.option(f"--{name}", is_flag=True, help=text)(command)
    return command


@click.command()
@_options
def supports(**asked: bool) -> None:
    """Say what can be verified: one line for each item of the capability that is asked for."""
    names = [name.replace("_", "-") for name, wanted in asked.items() if wanted]
    if len(names) != 1:
        raise ConfigError(f"ask for one capability, gls-es supports --{next(iter(_HELP))} say; --help lists them.")
    from gls_es.formats import CAPABILITIES

    for line in CAPABILITIES[names[0]]:
        click.echo(line)
