"""One query decided about the network in a file, whichever command asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gls_es.errors import UnsupportedNetworkError

from .deadline import Deadline
from .session import Session


@dataclass(frozen=True)
class Answer:
    """What is known of a query.

    Attributes:
        decision: the ``gls_es.certification.Decision``.
        text: of the result file, as the query's version of VNN-LIB asks for it.
        compared: what an ONNX file's logits were compared with when it was read; None for other files.
        replayed: what a counterexample was executed with.
    """

    decision: Any
    text: str
    compared: str | None
    replayed: str


def answer(
    session: Session,
    query: Any,
    path: Path,
    *,
    deadline: Deadline,
    seed: int,
    execution: str | None = None,
    problem: str | None = None,
    data: Path | None = None,
) -> Answer:
    """Decide a query.

    Args:
        session: where to say what a file's logits were compared with.
        query: what ``gls_es.formats.read_query`` gives.
        path: the network, an ONNX file or another that ``load_subject`` reads.
        deadline: when to give up.
        seed: of random starts.
        execution: the arithmetic that bounds cover; None for that of the query's types.
        problem: for ``load_subject``.
        data: likewise.
    """
    if not path.name.lower().endswith((".onnx", ".onnx.gz")):
        return _of_checkpoint(query, path, deadline, seed, execution, problem, data)
    from gls_es import certification, formats

    from .output import note_reader

    try:
        model = formats.load_onnx(path)
    except UnsupportedNetworkError as reason:
        if execution not in (None, "float32"):
            raise
        return _enclosed(session, query, path, deadline, seed, reason)
    note_reader(session, model.compared)
    if query.declared is not None:
        formats.check_declared(model, query.declared)
    replay = formats.replaying(model)
    decision = certification.decide(
        model.module,
        model.input_shape,
        query.property,
        execution=execution or _execution(query, model.execution),
        timeout=deadline.left(),
        replay=replay,
        seed=seed,
    )
    replayed = "torch" if replay is None else "onnxruntime"
    return Answer(decision, formats.result_text(decision, query.declared), model.compared, replayed)


def _of_checkpoint(
    query: Any,
    path: Path,
    deadline: Deadline,
    seed: int,
    execution: str | None,
    problem: str | None,
    data: Path | None,
) -> Answer:
    from gls_es import certification, formats

    from .subject import load_subject

    network = load_subject(path, problem=problem, data=data).source.network
    decision = certification.decide(
        network.module(),
        network.input_shape,
        query.property,
        execution=execution or _execution(query),
        timeout=deadline.left(),
        seed=seed,
    )
    return Answer(decision, formats.result_text(decision, query.declared), None, "torch")


def _enclosed(session: Session, query: Any, path: Path, deadline: Deadline, seed: int, reason: Exception) -> Answer:
    """The same for networks that only intervals bound; ``reason`` says what relaxations lack."""
    from gls_es import certification, formats

    from .output import note_reader

    try:
        model = formats.load_enclosed(path)
    except UnsupportedNetworkError:
        raise reason from None
    note_reader(session, model.compared)
    if query.declared is not None:
        formats.check_declared(model.graph, query.declared)
    decision = certification.decide_enclosed(
        model.enclosure, model.reader.logits, query.property, timeout=deadline.left(), seed=seed
    )
    return Answer(decision, formats.result_text(decision, query.declared), model.compared, model.compared)


def _execution(query: Any, own: str = "float32") -> str:
    """The arithmetic to bound: that of the query's types, otherwise the network's own."""
    return "real" if query.declared is not None and query.declared.real else own
