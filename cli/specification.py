"""``gls-es certify NET.onnx --vnnlib SPEC``: one specification decided, as VNN-COMP asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .deadline import Deadline, answer_in_time
from .session import Session


def decide_specification(session: Session, path: Path, spec: Path, options: dict[str, Any]) -> None:
    """Decide whether the specification can be violated, write the result file, and print the result.

    Args:
        session: how to print.
        path: an ONNX file, or another that ``load_subject`` reads.
        spec: the VNN-LIB file.
        options: of the command.
    """
    about = {"path": str(path), "vnnlib": str(spec)}

    def work(deadline: Deadline) -> tuple[dict[str, Any], str]:
        return _decided(session, path, spec, options, deadline)

    def late() -> None:
        _say(session, {"result": "timeout", "stage": None, "seconds": options["timeout"], **about})

    summary = answer_in_time(work, late, seconds=options["timeout"], result=options["result"], word="timeout")
    _say(session, {**summary, **about})


def _decided(
    session: Session, path: Path, spec: Path, options: dict[str, Any], deadline: Deadline
) -> tuple[dict[str, Any], str]:
    """What is known, and the text of the result file."""
    from gls_es.formats import read_query

    from .answer import answer

    given = {name: options[name] for name in ("seed", "execution", "problem", "data")}
    found = answer(session, read_query(spec), path, deadline=deadline, **given)
    decision = found.decision
    summary = {
        "result": decision.result,
        "stage": decision.stage,
        "seconds": decision.seconds,
        "inputs": None if decision.inputs is None else [float(value) for value in decision.inputs],
        "outputs": None if decision.outputs is None else list(decision.outputs),
        "compared": found.compared,
        "replayed": found.replayed,
    }
    return summary, found.text


def _say(session: Session, summary: dict[str, Any]) -> None:
    from .output import print_json, show

    if session.json:
        print_json(summary)
    else:
        show(f"{summary['result']} ({summary['stage'] or 'undecided'}, {summary['seconds']:.2f} seconds)")
