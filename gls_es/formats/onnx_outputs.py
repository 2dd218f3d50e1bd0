"""Which output of an ONNX model is read, and a classifier's last Softmax, which is left out.

Softmax and LogSoftmax keep the order of logits, so the class is theirs; bounds are of logits, and what is certified is
the network up to them. A specification of outputs speaks of what the file computes, so nothing is left out there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gls_es.errors import FormatError

_KEEPING_ORDER = {(domain, op) for domain in ("", "ai.onnx") for op in ("Softmax", "LogSoftmax")}


def keep_output(path: Path, graph: Any, name: str) -> None:
    """Leave one output of several.

    Raises:
        FormatError: there is none of this name.
    """
    kept = [value for value in graph.output if value.name == name]
    if not kept:
        listed = ", ".join(repr(value.name[:60]) for value in graph.output)
        raise FormatError(f"{path}: has no output {name[:60]!r}; its outputs are {listed}.")
    chosen = type(kept[0])()
    chosen.CopyFrom(kept[0])
    del graph.output[:]
    graph.output.append(chosen)


def leave_out_softmax(path: Path, graph: Any) -> str | None:
    """Make a classifier's output its logits, if a Softmax over classes makes it; the operator that is left out.

    Raises:
        FormatError: there are several outputs.
    """
    if len(graph.output) != 1:
        listed = ", ".join(repr(value.name[:60]) for value in graph.output)
        raise FormatError(f"{path}: has several outputs, {listed}; choose the one with the logits (--output NAME).")
    output = graph.output[0]
    makers = [node for node in graph.node if output.name in node.output]
    if (
        len(makers) != 1
        or makers[0].op_type not in ("Softmax", "LogSoftmax")
        or makers[0].domain not in ("", "ai.onnx")
    ):
        return None
    axes = [attribute.i for attribute in makers[0].attribute if attribute.name == "axis"]
    if len(output.type.tensor_type.shape.dim) != 2 or (axes and axes[0] not in (1, -1)):
        return None
    output.name = makers[0].input[0]
    return str(makers[0].op_type)
