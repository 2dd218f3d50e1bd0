"""The ONNX nodes that an activation of a graph becomes when a network is written."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gls_es.errors import UnsupportedNetworkError
from gls_es.network.graph import Activation, Graph

Append = Callable[..., str]
"""Appends a node of an operator with a name, inputs and attributes; the name of what it makes."""
Keep = Callable[[str, Tensor], str]
"""Keeps a constant in the file; its name there."""

_SINCE = {"gelu": 20, "gelu-tanh": 20, "hard-swish": 14}
_PLAIN = {"abs": "Abs", "erf": "Erf", "gelu": "Gelu", "hard-swish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def opset_of(graph: Graph, least: int) -> int:
    """The operators that a graph needs, at least ``least``."""
    return max([least, *(_SINCE.get(n.kind, 0) for n in graph.nodes if isinstance(n, Activation))])


def write_activation(append: Append, keep: Keep, name: str, node: Activation, source: str) -> str:
    """Write ``node``, which reads ``source``, as nodes the last of which is called ``name``.

    Raises:
        UnsupportedNetworkError: no node of ONNX computes it.
    """
    if node.kind in _PLAIN:
        return append(_PLAIN[node.kind], name, [source])
    return _WRITERS[node.kind](append, keep, name, source, *node.constants)


def _gelu_tanh(append: Append, _keep: Keep, name: str, source: str) -> str:
    return append("Gelu", name, [source], approximate="tanh")


def _silu(append: Append, _keep: Keep, name: str, source: str) -> str:
    return append("Mul", name, [source, append("Sigmoid", f"{name}.sigmoid", [source])])


def _clamp(append: Append, keep: Keep, name: str, source: str, least: float, greatest: float) -> str:
    sides = (("min", least), ("max", greatest))
    ends = [keep(f"{name}.{side}", torch.tensor(end)) if math.isfinite(end) else "" for side, end in sides]
    return append("Clip", name, [source, *ends])


def _hard_sigmoid(append: Append, _keep: Keep, name: str, source: str, factor: float, shift: float) -> str:
    return append("HardSigmoid", name, [source], alpha=factor, beta=shift)


def _softplus(append: Append, keep: Keep, name: str, source: str, beta: float, threshold: float) -> str:
    if threshold <= 0 or math.log1p(math.exp(-threshold)) > threshold * 2.0**-24:
        raise UnsupportedNetworkError(
            f"the Softplus {name!r} returns its input above a threshold of {threshold:g}, where float32 sees a step, "
            f"and ONNX's has no threshold; export a network with nn.Softplus({beta:g}, threshold=20)."
        )
    if beta == 1.0:
        return append("Softplus", name, [source])
    rate = keep(f"{name}.beta", torch.tensor(beta))
    inner = append("Softplus", f"{name}.softplus", [append("Mul", f"{name}.inner", [source, rate])])
    return append("Div", name, [inner, rate])


def _elu(append: Append, keep: Keep, name: str, source: str, alpha: float, scale: float, rate: float) -> str:
    if rate == 1.0:
        if scale == 1.0:
            return append("Elu", name, [source], alpha=alpha)
        return append("Selu", name, [source], alpha=alpha, gamma=scale)
    # s z for z > 0, else s α (e^(β z) - 1): the sum of s ReLU(z) and s Elu(-ReLU(-β z))
    numbers = {"scale": scale, "rate": -rate, "one": -1.0}
    kept = {key: keep(f"{name}.{key}", torch.tensor(value)) for key, value in numbers.items()}
    turned = append("Relu", f"{name}.turned", [append("Mul", f"{name}.inner", [source, kept["rate"]])])
    left = append("Elu", f"{name}.elu", [append("Mul", f"{name}.left", [turned, kept["one"]])], alpha=alpha)
    both = append("Add", f"{name}.sum", [append("Relu", f"{name}.right", [source]), left])
    return append("Mul", name, [both, kept["scale"]])


_WRITERS: dict[str, Callable[..., str]] = {
    "clamp": _clamp,
    "elu": _elu,
    "gelu-tanh": _gelu_tanh,
    "hard-sigmoid": _hard_sigmoid,
    "silu": _silu,
    "softplus": _softplus,
}
