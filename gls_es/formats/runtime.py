"""Second readers of ONNX models: their logits, and whether a module agrees with them.

onnxruntime is the executor that other tools replay with. Where it is not installed, the evaluator that onnx itself
brings takes its place: slower, but it needs nothing besides.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.errors import FormatError
from gls_es.formats.extras import library

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}
"""How far logits may lie apart by the format of the file, relative to their output's largest."""
_EXECUTORS = 32
"""How much further than one executor's float32 from its float64 may another one's lie."""
_POINTS, _CORNERS = 4, 2


class Reader(Protocol):
    """Somebody else's execution of a model."""

    def logits(self, x: Tensor) -> Tensor:
        """The outputs (B, K) of inputs (B, *input_shape), in the model's format."""


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
            model = library("onnx", "evaluating an ONNX model").load_model_from_string(data)
            self._evaluator: Any = reference.ReferenceEvaluator(model)
            held = {tensor.name for tensor in model.graph.initializer}
            axes = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input if v.name not in held}
            self._inputs = {name: [axis.dim_value for axis in dims] for name, dims in axes.items()}
            kinds = {v.type.tensor_type.elem_type for v in model.graph.input if v.name not in held}
            self._kind = np.float64 if kinds == {11} else np.float32
        except Exception as error:  # its exceptions share no base class
            raise FormatError(f"{what}: onnx.reference refuses the model ({_first_line(error)}).") from error

    def logits(self, x: Tensor) -> Tensor:
        """The outputs (B, K) of inputs (B, *input_shape), in the model's format.

        Raises:
            FormatError: the evaluator fails on them.
        """
        return _rows(self._evaluator, self._inputs, x, f"{self._what}: onnx.reference", self._kind)


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
            self._inputs = {value.name: list(value.shape) for value in self._session.get_inputs()}
            double = {value.type for value in self._session.get_inputs()} == {"tensor(double)"}
            self._kind = np.float64 if double else np.float32
        except Exception as error:  # its exceptions share no base class
            raise FormatError(f"{what}: onnxruntime refuses the model ({_first_line(error)}).") from error

    def logits(self, x: Tensor) -> Tensor:
        """The outputs (B, K) of inputs (B, *input_shape), in the model's format.

        Raises:
            FormatError: onnxruntime fails on them.
        """
        return _rows(self._session, self._inputs, x, f"{self._what}: onnxruntime", self._kind)


def check_same_logits(
    data: bytes, module: nn.Module, input_shape: Sequence[int], *, what: str, reference: bool = False
) -> None:
    """Compare a module in the file's format with onnxruntime, or with onnx's own evaluator.

    Inputs are random ones between 0 and 1, and random corners, where activations are farthest from 0.

    Raises:
        FormatError: logits differ by more than the format's entry of ``TOLERANCES``.
    """
    x = torch.rand(_POINTS, *input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([x, x[:_CORNERS].round()])
    name, reader = ("onnx.reference", OnnxReference) if reference else ("onnxruntime", OnnxRuntime)
    theirs = reader(data, what=what).logits(x)
    with torch.no_grad():
        own = module(x.to(theirs.dtype)).flatten(1)
    if own.shape != theirs.shape:
        raise FormatError(f"{what}: {name} gives {tuple(theirs.shape)} logits, gls-es {tuple(own.shape)}.")
    apart = (own - theirs).abs().amax(0)
    if bool((apart <= TOLERANCES[own.dtype] * own.abs().amax(0)).all()):
        return
    allowed = _allowed(module, x, own)
    if not bool((apart <= allowed).all()):  # NaN is no agreement
        worst = int((apart - allowed).nan_to_num(math.inf).argmax())
        far = f"lie {float(apart[worst]):.3g} apart in output {worst}"
        raise FormatError(f"{what}: the logits of gls-es and of {name} {far}; please report this.")


def _allowed(module: nn.Module, x: Tensor, own: Tensor) -> Tensor:
    """How far each output may lie from another executor's, (K,): by its own size, and by what rounding makes of it.

    By the largest alone a small output beside large ones would not be looked at. Where large numbers cancel in it,
    float32 and float64 differ by about what two executors do.
    """
    share = TOLERANCES[own.dtype]
    largest = own.abs().amax(0)
    single = x.float()
    with torch.no_grad():
        pair = [copy.deepcopy(module).to(kind)(single.to(kind)).flatten(1).double() for kind in TOLERANCES]
    noise = (pair[0] - pair[1]).abs().amax(0).nan_to_num(0.0, 0.0)
    noise *= torch.finfo(own.dtype).eps / torch.finfo(torch.float32).eps
    return torch.minimum(share * largest.max().clamp(min=1), share * largest + _EXECUTORS * noise.to(own.dtype))


def _rows(execute: Any, inputs: Mapping[str, list[Any]], x: Tensor, who: str, kind: type[Any]) -> Tensor:
    """The outputs (B, K), one after the other, of one input at a time; an open axis gets the size 1."""
    shapes = {name: [n if isinstance(n, int) and n > 0 else 1 for n in sizes] for name, sizes in inputs.items()}
    rows = []
    for one in x.detach().cpu().flatten(1).numpy().astype(kind):
        feed, start = {}, 0
        for name, shape in shapes.items():
            feed[name] = one[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        try:
            results = execute.run(None, feed)
            rows.append(torch.cat([torch.from_numpy(np.array(r, dtype=kind)).reshape(1, -1) for r in results], 1))
        except Exception as error:  # of other libraries; they share no base class
            raise FormatError(f"{who} fails ({_first_line(error)}).") from error
    return torch.cat(rows)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
