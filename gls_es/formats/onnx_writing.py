"""A network's traced graph as an ONNX model: few kinds of nodes, float32, operators of opset 13.

The module's own weights and BatchNorm statistics go into the file as they are, in float32. A division by constants
becomes a multiplication by their reciprocals, rounded once, and every other step is written as it was traced. The
bounds of certification allow for these roundings (``gls_es.network.steps``), so a certificate for float32 execution
covers a direct float32 execution of the exported model, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gls_es.basics.version import __version__
from gls_es.formats.extras import installed, library
from gls_es.formats.files import write_file
from gls_es.formats.onnx_curves import opset_of, write_activation
from gls_es.formats.runtime import check_same_logits
from gls_es.network import Network
from gls_es.network.graph import (
    Activation,
    Add,
    BatchNorm,
    Constant,
    Conv,
    Factor,
    Input,
    Learned,
    Linear,
    Node,
    Pool,
    ReLU,
    Reshape,
    Scale,
    Select,
    Slice,
)
from gls_es.network.layers import multiplied

OPSET = 13
"""Operators that every tool of the last years reads; none of those used has changed since in what it computes. GELU and
HardSwish are newer, and take the opset that has them."""
_IR_VERSION = 8
INPUT, OUTPUT = "input", "logits"
"""Names of the exported model's input, (batch, *input_shape), and output, (batch, K)."""


def save_onnx(network: Network, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> bool:
    """Write a network as an ONNX file and, where onnxruntime is installed, compare the logits of both.

    Args:
        network: what is written, with its own weights; a float64 one is rounded to float32.
        path: the file, replaced as a whole.
        metadata: names and texts to keep in the file.

    Returns:
        Whether onnxruntime was there to compare.

    Raises:
        ConfigError: onnx is not installed.
        FormatError: the file cannot be written, or onnxruntime computes other logits; then nothing is written.
        UnsupportedNetworkError: it holds an activation that no node of ONNX computes.
    """
    data = onnx_bytes(network, metadata=metadata)
    checked = installed("onnxruntime")
    if checked:
        check_same_logits(data, network.module().float().cpu(), network.input_shape, what=str(path))
    write_file(path, data)
    return checked


def onnx_bytes(network: Network, *, metadata: Mapping[str, str] | None = None) -> bytes:
    """The ONNX model of :func:`save_onnx` in its serial form.

    Raises:
        ConfigError: onnx is not installed.
        UnsupportedNetworkError: it holds an activation that no node of ONNX computes.
    """
    onnx = library("onnx", "writing ONNX")
    helper = onnx.helper
    writer = _Writer(network, onnx)
    for index, node in enumerate(network.graph.nodes):
        writer.take(index, node)
    writer.end()
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        writer.nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, kind, ["batch", *network.input_shape])],
        [helper.make_tensor_value_info(OUTPUT, kind, ["batch", network.num_classes])],
        initializer=list(writer.initializers.values()),
    )
    model = helper.make_model(
        graph,
        producer_name="gls-es",
        producer_version=__version__,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", opset_of(network.graph, OPSET))],
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@dataclass
class _Writer:
    """The nodes and initializers written so far; ``names`` gives the value that stands for each node of the graph."""

    network: Network
    onnx: Any
    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module = self.network.module().float()
        self.weights = self.network.parameter_vector().float().cpu()
        self.titles = {place.start: name for name, place in self.network.named_slices().items()}
        self.shapes = self.network.parameter_shapes()

    def take(self, index: int, node: Node) -> None:
        """Write the node of the graph at ``index``."""
        sources = [self.names[i] for i in node.inputs]
        name = f"{index}.{node.path.strip(chr(39)) or type(node).__name__}"
        if isinstance(node, Input):
            self.names[index] = INPUT
        elif isinstance(node, (Linear, Conv)):
            self.names[index] = self._affine(name, node, sources[0])
        elif isinstance(node, Scale):
            self.names[index] = self._scale(name, node, sources[0])
        elif isinstance(node, Pool):
            self.names[index] = self._pool(name, node, sources[0])
        elif isinstance(node, Add):
            self.names[index] = self._node("Add", name, sources)
        elif isinstance(node, ReLU):
            self.names[index] = self._node("Relu", name, sources)
        elif isinstance(node, Select):
            self.names[index] = self._select(name, node, sources)
        elif isinstance(node, Activation):
            self.names[index] = write_activation(self._node, self._tensor, name, node, sources[0])
        else:
            assert isinstance(node, Reshape)
            self.names[index] = self._reshape(name, node, sources[0])

    def end(self) -> None:
        """Give the last value the output's name."""
        self._node("Identity", OUTPUT, [self.names[self.network.graph.output]])

    def _node(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node whose only output is called ``name``."""
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _affine(self, name: str, node: Linear | Conv, source: str) -> str:
        inputs = [source, self._weight(name, node)]
        inputs += [] if node.bias is None else [self._parameter(node.bias)]
        plain = name if node.norm is None else f"{name}.unnormalised"
        if isinstance(node, Linear):
            self._node("Gemm", plain, inputs, transB=1)
        else:
            window = node.window
            self._node(
                "Conv",
                plain,
                inputs,
                kernel_shape=list(window.kernel),
                strides=list(window.stride),
                pads=[*window.padding, *window.padding],
                dilations=list(window.dilation),
                group=window.groups,
            )
        return plain if node.norm is None else self._batch_norm(name, node.norm, plain)

    def _scale(self, name: str, node: Scale, source: str) -> str:
        if isinstance(node.source, BatchNorm):
            return self._batch_norm(name, node.source, source)
        if isinstance(node.source, Learned):
            for op, place in (("Mul", node.source.scale), ("Add", node.source.shift)):
                if place is not None:
                    source = self._node(op, f"{name}.{op.lower()}", [source, self._parameter(place)])
            return source
        if isinstance(node.source, Factor):
            factor = self._slice(node.source.place).reshape(-1, *[1] * (len(node.shape) - 1))
            factor = 1 - factor if node.source.complement else factor
            return self._node("Mul", name, [source, self._tensor(f"{name}.factor", factor)])
        assert isinstance(node.source, Constant)
        scale, shift = self.network.constant(node.source, self.weights)
        if bool((scale != 1).any()):
            source = self._node("Mul", f"{name}.scaled", [source, self._tensor(f"{name}.scale", scale)])
        if bool((shift != 0).any()):
            source = self._node("Add", f"{name}.shifted", [source, self._tensor(f"{name}.shift", shift)])
        return source

    def _batch_norm(self, name: str, norm: BatchNorm, source: str) -> str:
        mean, var = (self.module.get_buffer(f"{norm.path}.running_{part}") for part in ("mean", "var"))
        scale = self._tensor(f"{name}.one", torch.ones_like(mean)) if norm.weight is None else None
        shift = self._tensor(f"{name}.zero", torch.zeros_like(mean)) if norm.bias is None else None
        inputs = [
            source,
            scale or self._parameter(norm.weight),
            shift or self._parameter(norm.bias),
            self._tensor(f"{norm.path}.running_mean", mean),
            self._tensor(f"{norm.path}.running_var", var),
        ]
        return self._node("BatchNormalization", name, inputs, epsilon=norm.eps)

    def _pool(self, name: str, node: Pool, source: str) -> str:
        window, size = node.window, math.prod(node.window.kernel)
        pooled = self._node(
            "AveragePool",
            name if node.divisor == size else f"{name}.mean",
            [source],
            kernel_shape=list(window.kernel),
            strides=list(window.stride),
            pads=[*window.padding, *window.padding],
            count_include_pad=1,
        )
        if node.divisor == size:
            return pooled
        ratio = self._tensor(f"{name}.ratio", torch.tensor([size / node.divisor]))
        return self._node("Mul", name, [pooled, ratio])

    def _reshape(self, name: str, node: Reshape, source: str) -> str:
        if len(node.shape) == 1:
            return self._node("Flatten", name, [source], axis=1)
        shape = torch.tensor([-1, *node.shape])
        return self._node("Reshape", name, [source, self._tensor(f"{name}.shape", shape)])

    def _select(self, name: str, node: Select, sources: list[str]) -> str:
        """Gather by an index from all values, with a zero behind them that stands for what is not copied."""
        flat = [self._node("Flatten", f"{name}.flat{i}", [source], axis=1) for i, source in enumerate(sources)]
        found = flat[0] if len(flat) == 1 else self._node("Concat", f"{name}.joined", flat, axis=1)
        index = node.places.index
        if not node.places.complete:
            pads = self._tensor("one_more", torch.tensor([0, 0, 0, 1]))
            found = self._node("Pad", f"{name}.longer", [found, pads])
            index = torch.where(index < 0, node.places.total, index)
        found = self._node("Gather", f"{name}.taken", [found, self._tensor(f"{name}.index", index)], axis=1)
        if node.fill is not None:
            fill = self.network.constants()[node.fill].float()
            found = self._node("Add", f"{name}.filled", [found, self._tensor(f"{name}.fill", fill)])
        shape = torch.tensor([-1, *node.shape])
        return self._node("Reshape", name, [found, self._tensor(f"{name}.shape", shape)])

    def _weight(self, name: str, node: Linear | Conv) -> str:
        if not node.turned and (isinstance(node, Conv) or node.columns is None):
            return self._parameter(node.weight)
        weight = self.weights[node.weight.start : node.weight.stop].reshape(1, *node.weight.shape)
        return self._tensor(f"{name}.weight", multiplied(node, weight)[0])

    def _parameter(self, place: Slice | None) -> str:
        assert place is not None
        name = self.titles[place.start]
        title = name if place.shape == self.shapes[name] else f"{name}.as{'x'.join(map(str, place.shape))}"
        return self._tensor(title, self._slice(place))

    def _slice(self, place: Slice) -> Tensor:
        return self.weights[place.start : place.stop].reshape(place.shape)

    def _tensor(self, name: str, value: Tensor) -> str:
        """Keep a tensor in the file once, however often it is used."""
        if name not in self.initializers:
            array = value.detach().cpu().contiguous().numpy()
            self.initializers[name] = self.onnx.numpy_helper.from_array(array, name)
        return name
