"""Second readers of ONNX models: their logits, and whether a module agrees with them.

onnxruntime is the executor that other tools replay with. Where it is not installed, the evaluator that onnx itself
brings takes its place: slower, but it needs nothing besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gls_es.errors import FormatError
from gls_es.formats.extras import library

TOLERANCE = 1e-5
"""How far logits may lie apart, relative to the largest of them or to 1."""
_POINTS = 4


class Reader(Protocol):
    """Somebody else's execution of a model."""

    def logits(self, x: Tensor) -> Tensor:
        """The outputs (B, K) of inputs (B, *input_shape), float32."""


class OnnxReference:
    """An ONNX model evaluated by ``onnx.reference``, one input at a time.

    Args:
        data: the model in its serial form; no other file is read.
        what: its name in messages.

    Raises:
        ConfigError: onnx is not installed.
        FormatError: the evaluator refuses the model.
    """

    def __init__(self, data: bytes, *, what: str) -> None:
        reference = library("onnx.reference", "evaluating an ONNX model")
        self._what = what
        try:
            self._evaluator: Any = reference.ReferenceEvaluator(library("onnx", "reading").load_from_string(data))
        except Exception as error:  # its exceptions share no base class
            raise FormatError(f"{what}: onnx.reference refuses the model ({_first_line(error)}).") from error

    def logits(self, x: Tensor) -> Tensor:
        """The outputs (B, K) of inputs (B, *input_shape), float32.

        Raises:
            FormatError: the evaluator fails on them.
        """
        (name,) = self._evaluator.input_names
        rows = []
        for one in x.detach().cpu().float():
            try:
                (result,) = self._evaluator.run(None, {name: one[None].numpy()})
            except Exception as error:
                raise FormatError(f"{self._what}: onnx.reference fails ({_first_line(error)}).") from error
            rows.append(torch.from_numpy(result).reshape(1, -1))
        return torch.cat(rows)


class OnnxRuntime:
    """An ONNX model executed by onnxruntime on the CPU, in one thread, one input at a time.

    Args:
        data: the model in its serial form; no other file is read.
        what: its name in messages.

    Raises:
        ConfigError: onnxruntime is not installed.
        FormatError: onnxruntime refuses the model.
    """

    def __init__(self, data: bytes, *, what: str) -> None:
        runtime = library("onnxruntime", "replaying an ONNX model")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._what = what
        try:
            self._session: Any = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            (self._input,) = self._session.get_inputs()
        except Exception as error:  # its exceptions share no base class
            raise FormatError(f"{what}: onnxruntime refuses the model ({_first_line(error)}).") from error

    def logits(self, x: Tensor) -> Tensor:
        """The outputs (B, K) of inputs (B, *input_shape), float32.

        Raises:
            FormatError: onnxruntime fails on them.
        """
        rows = []
        for one in x.detach().cpu().float():
            try:
                (result,) = self._session.run(None, {self._input.name: one[None].numpy()})
            except Exception as error:
                raise FormatError(f"{self._what}: onnxruntime fails ({_first_line(error)}).") from error
            rows.append(torch.from_numpy(result).reshape(1, -1))
        return torch.cat(rows)


def check_same_logits(
    data: bytes, module: nn.Module, input_shape: Sequence[int], *, what: str, reference: bool = False
) -> None:
    """Compare a module in float32 with onnxruntime on random inputs, or with onnx's own evaluator.

    Raises:
        FormatError: logits differ by more than ``TOLERANCE``.
    """
    x = torch.rand(_POINTS, *input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = module(x).flatten(1)
    name, reader = ("onnx.reference", OnnxReference) if reference else ("onnxruntime", OnnxRuntime)
    theirs = reader(data, what=what).logits(x)
    if own.shape != theirs.shape:
        raise FormatError(f"{what}: {name} gives {tuple(theirs.shape)} logits, gls-es {tuple(own.shape)}.")
    scale = max(1.0, float(own.abs().max()))
    apart = float((own - theirs).abs().max())
    if not apart <= TOLERANCE * scale:  # NaN is no agreement
        raise FormatError(f"{what}: the logits of gls-es and of {name} lie {apart:.3g} apart; please report this.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
