"""What a module must be before it is looked into: weights that are real numbers, in one place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gls_es.basics.checks import FLOATS
from gls_es.errors import UnsupportedNetworkError


def check_module(module: Any) -> None:
    """Refuse what is no module, or one whose weights hold no ordinary numbers.

    Args:
        module: what was given as a network.

    Raises:
        UnsupportedNetworkError: it is no ``nn.Module``, or a parameter or buffer is uninitialised, on the meta device,
            sparse, complex, quantised, of a class that wraps another tensor, or on another device than the others.
    """
    if not isinstance(module, nn.Module):
        raise UnsupportedNetworkError(f"Network takes an nn.Module, not {type(module).__name__}.")
    devices: set[torch.device] = set()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        complaint = _complaint(tensor)
        if complaint is not None:
            raise UnsupportedNetworkError(f"{type(module).__name__}: {name} {complaint}.")
        devices.add(tensor.device)
    if len(devices) > 1:
        found = ", ".join(sorted(map(str, devices)))
        raise UnsupportedNetworkError(f"{type(module).__name__}: its weights are on {found}; move it to one device.")


def _complaint(tensor: Tensor) -> str | None:
    """What is wrong with a weight, or None."""
    if is_lazy(tensor):
        return "has no shape yet; run the module once on an image"
    if tensor.is_meta:
        return "is on the meta device and holds no numbers; load weights into module.to_empty(device='cpu')"
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"is a {type(tensor).__name__}, which keeps its numbers elsewhere; give a plain tensor of them"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"is stored as {tensor.layout}; make it dense by to_dense()"
    if tensor.is_complex() or tensor.is_quantized or (tensor.is_floating_point() and tensor.dtype not in FLOATS):
        return f"has the type {tensor.dtype}, for which no bounds are known; use float32 or float64"
    return None
