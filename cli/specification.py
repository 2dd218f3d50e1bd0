"""``gls-es certify NET.onnx --vnnlib SPEC``: one specification decided, as VNN-COMP asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .session import Session


def decide_specification(session: Session, path: Path, spec: Path, options: dict[str, Any]) -> None:
    """Decide whether the specification can be violated, write the result file, and print the result.

    Args:
        session: how to print.
        path: an ONNX file, or another that ``load_subject`` reads.
        spec: the VNN-LIB file.
        options: of the command.
    """
    from gls_es import certification, formats

    from .output import note_reader, print_json, show
    from .subject import load_subject

    prop = formats.read_vnnlib(spec)
    replay, compared = None, None
    if path.suffix.lower() == ".onnx":
        model = formats.load_onnx(path)
        module, shape = model.module, model.input_shape
        replay, compared = formats.replaying(model), model.compared
        note_reader(session, compared)
    else:
        network = load_subject(path, problem=options["problem"], data=options["data"]).source.network
        module, shape = network.module(), network.input_shape
    decision = certification.decide(
        module,
        shape,
        prop,
        execution=options["execution"] or "float32",
        timeout=options["timeout"],
        replay=replay,
        seed=options["seed"],
    )
    if options["result"] is not None:
        formats.write_result(decision, options["result"])
    summary = {
        "result": decision.result,
        "stage": decision.stage,
        "seconds": decision.seconds,
        "inputs": None if decision.inputs is None else [float(value) for value in decision.inputs],
        "outputs": None if decision.outputs is None else list(decision.outputs),
        "compared": compared,
        "replayed": "onnxruntime" if replay is not None else "torch",
        "path": str(path),
        "vnnlib": str(spec),
    }
    if session.json:
        print_json(summary)
    else:
        show(f"{decision.result} ({decision.stage or 'undecided'}, {decision.seconds:.2f} seconds)")
