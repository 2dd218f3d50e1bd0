"""A network as a function of its flat weight vector, for one member or a whole population."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gls_es.basics.checks import dense_numbers
from gls_es.basics.modes import ordinary_modes, usable
from gls_es.errors import ConfigError, UnsupportedNetworkError
from gls_es.network.admission import private_copy
from gls_es.network.copies import check_same_outputs, deep_copy
from gls_es.network.entrance import check_module
from gls_es.network.evaluation import evaluate, evaluate_with_error
from gls_es.network.graph import Constant, Graph
from gls_es.network.layers import Layer, materialise
from gls_es.network.tracing import trace
from gls_es.network.vectors import fill, vector_of


class Normalize(nn.Module):
    """``(x - mean) / std`` per channel, as a layer: the network's input, and so eps, stays in [0, 1] pixel units.

    Args:
        mean: one number per channel.
        std: one positive number per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(map(math.isfinite, (*mean, *std))) or not all(s > 0 for s in std):
            raise ConfigError(f"Normalize needs one mean and one positive std per channel, not {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); with one mean for all channels any C will do.

        Raises:
            ConfigError: the images have another number of channels, to which means would be broadcast.
        """
        own, found = self.mean.shape[0], x.shape[-3] if x.ndim > 2 else 0
        if isinstance(found, int) and own not in (1, found):  # tensors, whatever mypy says, under torch.jit.trace
            raise ConfigError(
                f"Normalize has means of {own} channels, and images of shape {tuple(x.shape)} have another number; "
                f"give images (N, {own}, H, W), or one mean and one std for all channels."
            )
        return (x - self.mean) / self.std


class Network:
    """An ``nn.Module`` traced into affine and ReLU nodes, evaluated for any weight vector.

    Args:
        module: the network, from an image to logits. It is copied and put in eval mode; later changes to the original
            change nothing here.
        input_shape: the image's shape without the batch axis, e.g. ``(1, 28, 28)``.

    Raises:
        UnsupportedNetworkError: the module holds something without bounds; every such module is listed.
    """

    graph: Graph
    """The traced graph (see :mod:`gls_es.network.graph`)."""
    steps: Graph
    """The same before layers were merged: a node for every operator that the module was seen to execute."""
    left_out: str | None
    """"Softmax" or "LogSoftmax", if the module ended with that layer; it is left out, in :meth:`module`, too."""

    @ordinary_modes()
    def __init__(self, module: nn.Module, input_shape: Sequence[int]) -> None:
        check_module(module)
        shape = _checked_shape(input_shape)
        with torch.inference_mode(False):  # what was made there could not be trained
            given, module = module, private_copy(module)
            check_same_outputs(given, module, shape)
            if type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential):
                module = nn.Sequential(module)  # layers have a path, by which they and their buffers are named
            traced = trace(module, shape)
        self._module = module
        self._constants = traced.constants
        self._wide = traced.wide
        self.graph = traced.graph
        self.steps = traced.steps
        self.left_out = traced.left_out
        self.input_shape = shape

    @property
    def num_parameters(self) -> int:
        """L, the length of the weight vector."""
        return self.graph.num_parameters

    @property
    def num_classes(self) -> int:
        """K, the number of logits."""
        return self.graph.nodes[-1].shape[0]

    @property
    def relu_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the pre-activations, in topological order."""
        return [self.graph.nodes[i].shape for i in self.graph.relus()]

    def parameter_vector(self) -> Tensor:
        """The module's own weights, (L,), in the order of ``torch.nn.utils.parameters_to_vector``."""
        return vector_of(self._module.parameters()).detach().clone()

    def named_slices(self) -> dict[str, slice]:
        """Where each named parameter lies in the weight vector."""
        found: dict[str, slice] = {}
        start = 0
        for name, parameter in self._module.named_parameters():
            found[name] = slice(start, start + parameter.numel())
            start += parameter.numel()
        return found

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each named parameter, in the order of the weight vector."""
        return {name: tuple(parameter.shape) for name, parameter in self._module.named_parameters()}

    def module(self, params: Tensor | None = None) -> nn.Module:
        """A copy of the module (eval mode) that holds the weights of one member.

        Args:
            params: (L,), or a ``Solution`` of EvoTorch; None for the module's own weights.
        """
        result = deep_copy(self._module)
        if params is not None:
            if not isinstance(params, Tensor):
                params = getattr(params, "values", params)  # EvoTorch's Solution has them
            if not isinstance(params, Tensor) or params.shape != (self.num_parameters,):
                raise ConfigError(
                    f"params must be a tensor ({self.num_parameters},) or a Solution, the weights of one member, not "
                    f"{tuple(params.shape) if isinstance(params, Tensor) else type(params).__name__}"
                )
            fill(result.parameters(), params.detach().as_subclass(Tensor))
        return result

    def buffers(self) -> dict[str, Tensor]:
        """The module's floating-point buffers by name (BatchNorm statistics, normalisation), which no θ holds."""
        return {name: b.clone() for name, b in self._module.named_buffers() if b.is_floating_point()}

    def load_buffers(self, buffers: dict[str, Tensor]) -> None:
        """Overwrite the module's buffers; names and shapes must be those of :meth:`buffers`."""
        own = dict(self._module.named_buffers())
        for name, value in buffers.items():
            if name not in own or own[name].shape != value.shape:
                raise ConfigError(f"the network has no buffer {name!r} of shape {tuple(value.shape)}")
            own[name].copy_(value)

    def holding(self, params: Tensor, buffers: dict[str, Tensor]) -> Network:
        """The same network with other weights (L,) and other buffers (see :meth:`buffers`) as its own.

        Raises:
            ConfigError: a buffer that it does not have, or of another shape.
        """
        other = copy.copy(self)
        other._module = self.module(params)
        other.load_buffers(buffers)
        return Network(other._module, self.input_shape)  # traced again: tracing turns normalisation into constants

    def wide(self) -> Network:
        """The same network with its constants as an execution in float64 has them: Python numbers are not rounded."""
        other = copy.copy(self)
        other._constants = self._wide
        return other

    def members(self, params: Tensor | None, like: Tensor) -> Tensor:
        """``params`` as (P, L) with the dtype and device of ``like``; None gives the own weights, (1, L)."""
        if params is None:
            return self.parameter_vector().to(like)[None]
        if not isinstance(params, Tensor) or params.layout != torch.strided or params.is_meta:
            raise ConfigError(f"params must be a dense torch.Tensor (P, L), not {type(params).__name__}.")
        if params.dim() != 2 or params.shape[1] != self.num_parameters or len(params) == 0:
            raise ConfigError(f"params must have shape (P, {self.num_parameters}), P >= 1, not {tuple(params.shape)}.")
        if not params.is_floating_point():
            raise ConfigError(f"params must be floating-point numbers, not {params.dtype}.")
        return usable(
            params.as_subclass(Tensor).to(like)
        )  # EvoTorch hands out a read-only type that spoils in-place steps

    def layers(self, params: Tensor, *, sizes: bool = False) -> list[Layer | None]:
        """The graph's layers with weights ``params`` (G, L); see :func:`~gls_es.network.layers.materialise`."""
        return materialise(self.graph, params, self._buffer, sizes=sizes)

    def constants(self) -> dict[str, Tensor]:
        """All that constant scalings refer to, float64, by name; copies."""
        return {name: value.clone() for name, value in self._constants.items()}

    def constant(self, source: Constant, like: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift of a constant scaling, with the dtype and device of ``like``; they broadcast to images."""
        return self._constants[f"{source.key}.scale"].to(like), self._constants[f"{source.key}.shift"].to(like)

    def logits(self, x: Tensor, params: Tensor | None = None) -> Tensor:
        """Logits of every member for every image.

        Args:
            x: images, floating: (B, *input_shape) for all members, or (P, B, *input_shape), each member's own.
            params: (P, L), or None for the module's own weights (P = 1).

        Returns:
            (P, B, K), with the dtype and device of ``x``.

        Raises:
            ConfigError: images or weights of the wrong shape.
        """
        x = dense_numbers("images", x)
        weights = self.members(params, x)
        own = x.dim() == len(self.input_shape) + 2 and len(x) == len(weights)
        self.check_images(x[0] if own else x)
        layers = self.layers(weights)
        values = evaluate(self.graph, layers, x if own else x[None])
        return values.expand(len(weights), -1, -1)

    @torch.no_grad()
    def checked_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the own weights in float64, and how far rounding may move those of another float64 program.

        Args:
            x: images, (B, *input_shape).

        Returns:
            Logits and tolerances, (B, K) each, float64.
        """
        x = x.double()
        params = self.parameter_vector().to(x)
        layers = materialise(self.steps, params[None], self._wide_buffer)
        _, error = evaluate_with_error(self.steps, layers, x[None], params, self._wide_buffer)
        merged = materialise(self.graph, params[None], self._wide_buffer)
        return evaluate(self.graph, merged, x[None])[0], 4 * error[0]

    def check_images(self, x: Tensor) -> None:
        """Refuse what is not (B, *input_shape) of floating numbers."""
        dense_numbers("images", x)
        if tuple(x.shape[1:]) != self.input_shape or x.dim() != len(self.input_shape) + 1:
            wanted = ", ".join(map(str, self.input_shape))
            raise ConfigError(f"images must have shape (B, {wanted}), not {tuple(x.shape)}.")

    def _wide_buffer(self, name: str) -> Tensor:
        constant = self._wide.get(name)
        return self._module.get_buffer(name) if constant is None else constant

    def _buffer(self, name: str) -> Tensor:
        constant = self._constants.get(name)
        return self._module.get_buffer(name) if constant is None else constant


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(n) for n in input_shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UnsupportedNetworkError(
            f"input_shape {input_shape!r} must be the image's sizes without the batch axis, (1, 28, 28) for example."
        )
    return shape
