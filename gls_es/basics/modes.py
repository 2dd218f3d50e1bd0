"""PyTorch's modes as a fresh process has them: whoever needs gradients or float32 must not depend on its caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from gls_es.errors import ConfigError

_AUTOCAST = ("cpu", "cuda")


@contextmanager
def ordinary_modes() -> Iterator[None]:
    """A context (and decorator) with gradients on, and new tensors in float32 on the CPU, whatever the caller has set.

    It leaves ``no_grad``, ``inference_mode`` and anomaly detection, and sets the default dtype and device; all is put
    back afterwards. ``autocast`` is not its business: :func:`under_autocast` tells.

    Raises:
        ConfigError: inside ``FakeTensorMode`` or while PyTorch traces, where tensors hold no numbers.
    """
    refuse_fake_tensors()
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.is_anomaly_enabled():
            stack.enter_context(torch.autograd.set_detect_anomaly(False))
        if torch.get_default_device().type != "cpu":  # entering it costs every call of PyTorch a little
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield


def refuse_fake_tensors() -> None:
    """Raise ConfigError where PyTorch hands out tensors without numbers, to find out shapes or to trace."""
    kinds: Any = torch._C._TorchDispatchModeKey
    for kind in (kinds.FAKE, kinds.PROXY, kinds.FUNCTIONAL):
        mode = torch._C._get_dispatch_mode(kind)
        if mode is not None:
            raise ConfigError(
                f"this was called inside {type(mode).__name__}, in which tensors hold no numbers; call it outside."
            )


def under_autocast() -> bool:
    """Whether ``torch.autocast`` is on, which lets layers compute in a precision that nobody asked for by name."""
    return any(torch.is_autocast_enabled(kind) for kind in _AUTOCAST)


def usable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that everything takes, be it autograd or compiled code that reads an address.

    Autograd refuses what comes from ``inference_mode`` and is used outside. Memory holds other numbers than the tensor
    if PyTorch has put off to negate or to conjugate them (``is_neg``), and none at all for its lazy zeros.
    """
    lazy = tensor.is_neg() or tensor.is_conj() or tensor._is_zerotensor()
    foreign = tensor.is_inference() and not torch.is_inference_mode_enabled()
    return tensor.clone() if lazy or foreign else tensor
