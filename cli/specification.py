"""``gls-es certify NET.onnx --vnnlib SPEC``: one specification decided, as VNN-COMP asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .deadline import Deadline
from .results import leave_word, remove_stale
from .session import Session


def decide_specification(session: Session, path: Path, spec: Path, options: dict[str, Any]) -> None:
    """Decide whether the specification can be violated, write the result file, and print the result.

    Args:
        session: how to print.
        path: an ONNX file, or another that ``load_subject`` reads.
        spec: the VNN-LIB file.
        options: of the command.
    """
    result: Path | None = options["result"]
    remove_stale(result)
    about = {"path": str(path), "vnnlib": str(spec)}

    def late() -> None:
        leave_word(result, "timeout")
        _say(session, {"result": "timeout", "stage": None, "seconds": options["timeout"], **about})

    with Deadline(options["timeout"], late) as deadline:
        try:
            summary, text = _decided(session, path, spec, options, deadline)
        except Exception:
            deadline.answered()
            leave_word(result, "unknown")
            raise
        deadline.answered()
    if result is not None:
        from gls_es.formats import write_text

        write_text(result, text)
    _say(session, {**summary, **about})


def _decided(
    session: Session, path: Path, spec: Path, options: dict[str, Any], deadline: Deadline
) -> tuple[dict[str, Any], str]:
    """What is known, and the text of the result file."""
    from gls_es import certification, formats

    from .output import note_reader
    from .subject import load_subject

    query = formats.read_query(spec)
    replay, compared, own = None, None, "float32"
    if path.suffix.lower() == ".onnx" or path.name.lower().endswith(".onnx.gz"):
        model = formats.load_onnx(path)
        if query.declared is not None:
            formats.check_declared(model, query.declared)
        module, shape, own = model.module, model.input_shape, model.execution
        replay, compared = formats.replaying(model), model.compared
        note_reader(session, compared)
    else:
        network = load_subject(path, problem=options["problem"], data=options["data"]).source.network
        module, shape = network.module(), network.input_shape
    decision = certification.decide(
        module,
        shape,
        query.property,
        execution=options["execution"] or own,
        timeout=deadline.left(),
        replay=replay,
        seed=options["seed"],
    )
    summary = {
        "result": decision.result,
        "stage": decision.stage,
        "seconds": decision.seconds,
        "inputs": None if decision.inputs is None else [float(value) for value in decision.inputs],
        "outputs": None if decision.outputs is None else list(decision.outputs),
        "compared": compared,
        "replayed": "onnxruntime" if replay is not None else "torch",
    }
    return summary, formats.result_text(decision, query.declared)


def _say(session: Session, summary: dict[str, Any]) -> None:
    from .output import print_json, show

    if session.json:
        print_json(summary)
    else:
        show(f"{summary['result']} ({summary['stage'] or 'undecided'}, {summary['seconds']:.2f} seconds)")
