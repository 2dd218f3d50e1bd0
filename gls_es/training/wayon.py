"""How a run goes on, for the messages that say so: by the command, or by a call where only a caller has the module."""

from __future__ import annotations

import tomllib
from pathlib import Path

from gls_es.problem.registry import named_by_file
from gls_es.training.names import CONFIG

HANDED = "gls_es.problem.own:ModuleProblem"
"""The problem of runs of ``gls_es.train(module, data)``: no file says what module and data were."""


def way_on(run: str | Path, problem: str, *, held_out: bool = False) -> str:
    """The command that goes on with a run, or the call.

    Args:
        run: the run folder.
        problem: the name the run's problem is found by.
        held_out: whether held-out images were handed over besides the data.
    """
    if problem == HANDED:
        data = "module, data, held_out" if held_out else "module, data"
        return f"`gls_es.training.resume({str(run)!r}, problem=gls_es.training.owned({data}))`"
    return f"`gls-es train --resume {run}{f' --problem {problem}' if named_by_file(problem) else ''}`"


def way_on_of(run: Path) -> str:
    """The same for a run folder that is there; one whose settings cannot be read gets the command.

    Args:
        run: the run folder.
    """
    try:
        problem = str(tomllib.loads((run / CONFIG).read_text(encoding="utf-8")).get("problem", ""))
    except (OSError, ValueError):
        problem = ""
    return way_on(run, problem)
