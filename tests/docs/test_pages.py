"""Every page: links lead somewhere, Python is Python, the shell's options exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from gls_es.cli.app import COMMANDS
from tests.docs.markdown import PAGES, anchors, blocks, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_parse(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text, f"{page.name} from line {block.line}")


def _commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = "\n".join(block.text for block in blocks(page) if block.language == "bash")
        found += [(page.name, line) for line in re.findall(rf"gls-es (?:{'|'.join(COMMANDS)})\b[^\n&|;]*", text)]
    return found


@pytest.mark.parametrize(("page", "line"), _commands())
def test_options_in_shell_blocks_exist(page: str, line: str) -> None:
    _, name, *arguments = shlex.split(line)
    module, attribute = COMMANDS[name][0].split(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [argument for argument in arguments if argument.startswith("-") and argument not in known | {"--help"}]
    assert not unknown, f"{page}: {line}"
