"""The tutorial, executed once: its blocks in order, in one folder and one namespace."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gls_es.cli.app import app
from tests.docs.markdown import ROOT, Block, blocks

TUTORIAL = ROOT / "docs" / "custom_problem.md"
collect_ignore_glob = [] if TUTORIAL.is_file() else ["test_*.py"]  # tests that lie outside a checkout have no pages


def invoke(line: str) -> Result:
    """Run a ``gls-es`` command line in this process."""
    program, *arguments = shlex.split(line)
    assert program == "gls-es", line
    return CliRunner().invoke(app, arguments)


@dataclass
class Tutorial:
    """What executing the page left behind.

    Attributes:
        folder: where it ran.
        names: the namespace of its Python blocks.
        commands: the command lines and how they ended.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "tutorial"})
    commands: list[tuple[str, Result]] = field(default_factory=list)

    def take(self, block: Block) -> None:
        """Write a block that names its file, execute another Python block, run the commands of a bash block."""
        if block.language == "bash":
            self.commands += [(line, invoke(line)) for line in block.text.splitlines()]
        elif block.language == "python":
            first = block.text.partition("\n")[0]
            if first.startswith("# ") and first.endswith(".py"):
                (self.folder / first[2:]).write_text(block.text, encoding="utf-8")
                return
            shifted = "\n" * (block.line - 1) + block.text  # tracebacks then name the page's own lines
            exec(compile(shifted, str(TUTORIAL), "exec"), self.names)


@pytest.fixture(scope="session")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    """The tutorial after its last block."""
    done = Tutorial(tmp_path_factory.mktemp("tutorial"))
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(done.folder)
        patch.syspath_prepend(str(done.folder))
        patch.setenv("EVOTORCH_VERBOSE_LEVEL", "0")
        for block in blocks(TUTORIAL):
            done.take(block)
        yield done
    for name in set(sys.modules) - before:
        if name.endswith("my_problem"):
            del sys.modules[name]
