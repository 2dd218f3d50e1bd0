"""What ONNX's activations besides Relu and Clip become: the modules of PyTorch that compute the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from gls_es.formats.onnx_building import Building, Refused, Value, float_tensor
from gls_es.formats.onnx_graph import OnnxNode
from gls_es.formats.onnx_module import Function, Product, with_weights

_ALPHA, _GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # Selu's by default, as float32 numbers
_FAR = 40.0
"""Beyond it, log(1 + e^x) is x in float64, too: ONNX's Softplus has no threshold."""

Translation = Callable[[Building, OnnxNode], Value]


def _of(make: Callable[[OnnxNode], nn.Module]) -> Translation:
    def translate(b: Building, node: OnnxNode) -> Value:
        source = b.activation(node)
        return b.add(make(node), (source,), source.full)

    return translate


def _of_float32(
    make: Callable[[OnnxNode], nn.Module], other: Callable[[OnnxNode], bool] = lambda _: True
) -> Translation:
    """What PyTorch's module is in float32 only, since ONNX says a constant as a float32 number."""

    def translate(b: Building, node: OnnxNode) -> Value:
        if b.graph.execution == "float64" and other(node):
            raise Refused("its constants are float32 numbers in ONNX: in float64 it has no bounds here")
        return _of(make)(b, node)

    return translate


def _selu(node: OnnxNode) -> nn.Module:
    alpha, gamma = node.number("alpha", _ALPHA), node.number("gamma", _GAMMA)
    return Function(f"Selu({alpha}, {gamma})", lambda x: torch.ops.aten.elu(x, alpha, gamma))


def _gelu(node: OnnxNode) -> nn.Module:
    kind = node.attributes.get("approximate", "none")
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind not in ("none", "tanh"):
        raise Refused(f"its approximation {kind!r} is not known")
    return nn.GELU(kind)


def _swish(node: OnnxNode) -> nn.Module:
    if node.number("alpha", 1.0) != 1.0:
        raise Refused("only alpha=1 has bounds here")
    return nn.SiLU()


def _threshold(node: OnnxNode) -> nn.Module:
    if node.number("alpha", 1.0) != 0.0:
        raise Refused("it jumps unless alpha=0")
    return nn.ReLU()


def _prelu(b: Building, node: OnnxNode) -> Value:
    source, slope = b.activation(node), float_tensor(b.constant(node, 1))
    shape = (1,) * (len(source.full) - slope.dim()) + tuple(slope.shape)
    channel = len(source.full) - len(source.shape)
    if slope.numel() > 1 and (len(shape) <= channel or slope.numel() != shape[channel]):
        raise Refused(f"its slopes of shape {tuple(slope.shape)} are not one for each channel")
    layer = with_weights(nn.PReLU, slope.numel(), weights={"weight": slope.reshape(-1)})
    return b.add(layer, (source,), source.full)


def _hard_sigmoid(b: Building, node: OnnxNode) -> Value:
    source = b.activation(node)
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if not alpha > 0:
        raise Refused(f"its alpha={alpha} is not positive")
    layer = Function(f"HardSigmoid({alpha}, {beta})", lambda x: (x * alpha + beta).clamp(0.0, 1.0))
    return b.add(layer, (source,), source.full)


def product(b: Building, left: Value, right: Value) -> Value | None:
    """A product of two activations that is one activation of the other, z σ(z) or z (1 + erf(c z)); None if it is none.

    What it is, with which constants, is recognised when the module is traced.
    """
    for first, second in ((left, right), (right, left)):
        index = second.index
        while index:
            step = b.operations[index - 1]
            if isinstance(step, nn.Sigmoid) or (isinstance(step, Function) and step.name == "Erf"):
                return b.add(Product(), (first, second), first.full)
            if len(b.wiring[index - 1]) != 1:
                break
            index = b.wiring[index - 1][0]
    return None


ACTIVATIONS: dict[str, Translation] = {
    "Abs": _of(lambda _: Function("Abs", torch.abs)),
    "Celu": _of(lambda node: nn.CELU(node.number("alpha", 1.0))),
    "Elu": _of(lambda node: nn.ELU(node.number("alpha", 1.0))),
    "Erf": _of(lambda _: Function("Erf", torch.erf)),
    "Gelu": _of_float32(_gelu, lambda node: node.attributes.get("approximate", b"none") != b"none"),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _of_float32(lambda _: nn.Hardswish()),
    "LeakyRelu": _of(lambda node: nn.LeakyReLU(node.number("alpha", 0.01))),
    "PRelu": _prelu,
    "Selu": _of(_selu),
    "Sigmoid": _of(lambda _: nn.Sigmoid()),
    "Softplus": _of(lambda _: nn.Softplus(threshold=_FAR)),
    "Swish": _of(_swish),
    "Tanh": _of(lambda _: nn.Tanh()),
    "ThresholdedRelu": _of(_threshold),
}
"""Operators by name."""
