"""Copies of modules that share nothing with them and hold the same: what is certified is the module that was given.

A class decides itself what a copy of it is (``__deepcopy__``, ``__getstate__``, ``__reduce__``), so that is looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gls_es.basics.checks import is_plain
from gls_es.errors import UnsupportedNetworkError
from gls_es.network.state import changed, contents_of
from gls_es.network.wording import first_line

_WAY = "a copy is worked on, so that the module itself stays as it is; mend what it does when it is copied"


def true_copy(module: nn.Module) -> nn.Module:
    """A deep copy of a module.

    Raises:
        UnsupportedNetworkError: it cannot be copied, or the copy shares layers or weights with it, or holds others.
    """
    name = type(module).__name__
    try:
        copied = deep_copy(module)
    except Exception as error:
        raise UnsupportedNetworkError(
            f"{name} cannot be copied ({first_line(error)}); "
            "detach() the tensors that it keeps, and leave out what belongs to one process."
        ) from error
    if not isinstance(copied, nn.Module) or set(_places(module)) & set(_places(copied)):
        raise UnsupportedNetworkError(f"{name}: its copy shares layers or weights with it; {_WAY}.")
    different = changed(contents_of(module), contents_of(copied))
    if different is not None:
        raise UnsupportedNetworkError(f"{name}: '{different}' is something else in its copy; {_WAY}.")
    return copied


def deep_copy(module: nn.Module) -> nn.Module:
    """``copy.deepcopy``, with the attributes of parameters, which PyTorch leaves behind."""
    memo: dict[int, object] = {}
    copied: nn.Module = copy.deepcopy(module, memo)
    twins = dict(nn.Module.named_parameters(copied)) if isinstance(copied, nn.Module) else {}
    for name, parameter in nn.Module.named_parameters(module):
        if vars(parameter) and name in twins and twins[name] is not parameter:
            vars(twins[name]).update(copy.deepcopy(vars(parameter), memo))
    return copied


@torch.no_grad()
def check_same_outputs(module: nn.Module, copied: nn.Module, input_shape: Sequence[int]) -> None:
    """Compare what a module in eval mode computes with what its copy does, on two images.

    Raises:
        UnsupportedNetworkError: it is something else, by whatever the module goes.
    """
    if any(part.training for part in module.modules()):
        return
    like = next(module.parameters(), torch.zeros(()))
    noise = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.random.fork_rng(devices=[like.device] if like.device.type == "cuda" else []):
        try:
            found = [part(noise.to(like, copy=True)) for part in (module, copied)]
            with _without_gradients(copied):
                found.append(copied(noise.to(like, copy=True)))
        except Exception:  # tracing says why
            return
    if not all(isinstance(out, Tensor) and out.is_floating_point() and is_plain(out) for out in found):
        return
    one, other, third = (out.double() for out in found)
    if not _same(one, other):
        raise UnsupportedNetworkError(f"{type(module).__name__}: its copy computes something else; {_WAY}.")
    if not _same(one, third):
        raise UnsupportedNetworkError(
            f"{type(module).__name__}: forward goes by whether weights require gradients, and must not."
        )


@contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    """While it lasts no weight requires a gradient, as when the module is executed."""
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        module.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _same(one: Tensor, other: Tensor) -> bool:
    size = float(one[one.isfinite()].abs().sum())
    return one.shape == other.shape and torch.allclose(one, other, 1e-5, 1e-6 * min(size, 1e300), equal_nan=True)


def _places(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Where its parts lie, and the numbers of its weights and buffers."""
    for part in module.modules():
        yield "part", id(part)
    for tensor in (*module.parameters(), *module.buffers()):
        if is_plain(tensor) and tensor.numel():
            yield "numbers", tensor.untyped_storage().data_ptr()
