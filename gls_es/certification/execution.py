"""The programs that verdicts are about: the network's own module, evaluated in one floating-point format.

Bounds are computed on the traced graph; whether an input *is* misclassified is asked of the module itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gls_es.basics.modes import under_autocast
from gls_es.errors import ConfigError
from gls_es.network import Network

DTYPES = {"float32": torch.float32, "float64": torch.float64, "real": torch.float64}
"""Format of the executor by what is certified: direct sums in float32 or float64, or exact arithmetic."""


class Executor:
    """A network's module in evaluation mode and one floating-point format; gradients flow to the input only.

    Args:
        network: the network; its module is copied.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: where it runs.
    """

    def __init__(self, network: Network, *, dtype: torch.dtype, device: torch.device) -> None:
        module = network.module()
        self.dtype = dtype
        self.device = device
        self.module = module.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self._network = network

    def logits(self, x: Tensor) -> Tensor:
        """The logits (B, K) of inputs (B, *input_shape), which stay as they are whatever the module does to its input.

        Their gradient is the module's own; where autograd cannot follow it (steps in place, ``no_grad``, ``detach``),
        it is that of the traced graph.
        """
        if not (x.requires_grad and torch.is_grad_enabled()):
            return self._executed(x)
        if self._differentiable:
            return self._executed(x)
        with torch.no_grad():
            executed = self._executed(x)
        graph = self._network.logits(x.to(device=self.device, dtype=self.dtype))[0]
        return executed + torch.nan_to_num(graph - graph.detach())

    def _executed(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x.to(device=self.device, dtype=self.dtype, copy=True))
        return logits

    @cached_property
    def _differentiable(self) -> bool:
        """Whether autograd follows the module."""
        x = torch.full((1, *self._network.input_shape), 0.5, dtype=self.dtype, device=self.device, requires_grad=True)
        try:
            torch.autograd.grad(self._executed(x).sum(), x)
        except RuntimeError:
            return False
        return True

    def margins(self, x: Tensor, labels: Tensor) -> Tensor:
        """The margins (B, K-1) of inputs (B, *input_shape); see :func:`margins_of`."""
        return margins_of(self.logits(x), labels)


def margins_of(logits: Tensor, labels: Tensor) -> Tensor:
    """f_y - f_j for the classes j other than y in ascending order, (B, K-1), from logits (B, K) and labels (B,).

    The sign is that of the comparison of the two logits: a floating-point difference is zero only between equals.
    """
    own = logits.gather(1, labels[:, None])
    return own - logits.gather(1, other_classes(labels, num_classes=logits.shape[1]))


def other_classes(labels: Tensor, *, num_classes: int) -> Tensor:
    """The classes other than the label in ascending order, (B, K-1) int64: column j of a margin belongs to [:, j]."""
    columns = torch.arange(num_classes - 1, device=labels.device).expand(len(labels), -1)
    return columns + (columns >= labels[:, None]).long()


def refuse_autocast() -> None:
    """Raise ConfigError under ``torch.autocast``, which would run another program than the one certified."""
    if under_autocast():
        raise ConfigError(
            "certify() was called under torch.autocast, whose reduced precision no certificate covers; "
            "call it outside the autocast block"
        )


def in_precision(network: Network, dtype: torch.dtype) -> Network:
    """The network with the weights, buffers and derived constants of an executor of ``dtype``: itself if they are."""
    module = network.module()
    if all(
        not value.is_floating_point() or value.dtype == dtype for value in (*module.parameters(), *module.buffers())
    ):
        return network
    return Network(module.to(dtype), network.input_shape)


@contextmanager
def direct_sums(device: torch.device) -> Iterator[None]:
    """A context in which float32 layers are direct sums of float32 products: the execution that certificates name.

    TF32 and bfloat16 products, and the Winograd and FFT convolutions of NNPACK and cuDNN, are other programs. They are
    switched off; the settings are restored at the end.
    """
    backends: Any = torch.backends  # its submodules are replaced by objects at import, which type checkers do not see
    places = [backends.mkldnn.matmul, backends.mkldnn.conv, backends.cuda.matmul]
    saved = [place.fp32_precision for place in places]
    with ExitStack() as stack:
        stack.enter_context(backends.nnpack.flags(enabled=False))
        if device.type == "cuda":
            stack.enter_context(backends.cudnn.flags(enabled=False))
        for place, precision in zip(places, saved, strict=True):
            place.fp32_precision = "ieee"
            stack.callback(setattr, place, "fp32_precision", precision)
        yield
