"""Statistics of BatchNorm while training goes on: estimated from clean images, never from boxes or attacked images.

A network's fitness has to be a function of its weights alone, so a generation sees fixed means and variances, those of
the network's buffers. They may stay as :func:`precise_statistics` finds them for the initial weights, or follow the
center between generations, whose forward pass moves them as ``nn.BatchNorm2d`` in train mode would (an exponential
average), and are computed precisely for the final weights at the end.

Following has a flaw that training by batch statistics has not: no gradient tells the weights that the statistics will
follow. What is gained by shifting or scaling activations against today's statistics is lost when they catch up.

γ and β are weights like others, and part of θ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gls_es.errors import ConfigError
from gls_es.network import Network
from gls_es.network.graph import BatchNorm, Conv, Linear, Scale

Statistics = dict[str, Tensor]
"""Buffers of the network by name: ``<path>.running_mean`` and ``<path>.running_var``, (C,) each."""

_MOMENTUM = 0.1  # for a BatchNorm without one, which in PyTorch means the plain average since the beginning


def has_statistics(net: Network) -> bool:
    """Whether the network holds BatchNorm."""
    return any(
        (isinstance(node, Linear | Conv) and node.norm is not None)
        or (isinstance(node, Scale) and isinstance(node.source, BatchNorm))
        for node in net.graph.nodes
    )


def updated_statistics(net: Network, params: Tensor, images: Tensor) -> Statistics:
    """The statistics after one more batch.

    Running values become (1 - m) old + m batch, with each layer's own momentum m and the unbiased variance of the
    batch; the batch is normalised by its own biased one on its way to later layers: a step of PyTorch's train mode.
    Where the old ones are still 0 and 1, the initial guess, m is 1.

    Args:
        net: the network, with the statistics so far.
        params: the weights whose activations count, (L,).
        images: (B, *input_shape), clean, B >= 2.

    Returns:
        The new statistics, on the images' device. A layer whose new ones are not finite keeps the old ones.

    Raises:
        ConfigError: a single image, which has no variance.
    """
    if len(images) < 2:
        raise ConfigError("BatchNorm estimates variances from a batch: batch_size must be at least 2, not 1.")
    module = net.module(params.to(images)).to(images.device)
    norms = dict(_norms(module))
    before = _read(norms)
    for norm in norms.values():
        norm.train()
        norm.momentum = 1.0 if _untouched(norm) else _MOMENTUM if norm.momentum is None else norm.momentum
    with torch.no_grad():
        module(images.clone())
    after = _read(norms)
    return {name: value if bool(value.isfinite().all()) else before[name] for name, value in after.items()}


def precise_statistics(net: Network, params: Tensor, batches: Callable[[], Iterable[Tensor]]) -> Statistics:
    """Mean and variance of what each BatchNorm receives over a whole set of images, given the others' statistics.

    One layer after the other, in the order in which they run, each with those before it already settled: afterwards
    every BatchNorm normalises the set to mean 0 and variance 1 exactly. (The mean of the statistics of batches, which
    costs one pass instead of one per layer, is that for the first layer's mean only.)

    Args:
        net: the network.
        params: (L,).
        batches: gives the set, in batches (B, *input_shape); called once for each BatchNorm, and once more.

    Returns:
        The statistics, variances with divisor n. A layer whose values are not finite keeps the network's.
    """
    module, order = _with_calls(net, params, batches)
    for name, calls in order.items():
        norm = module.get_submodule(name)
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        moments = _Moments.of_inputs(module, norm, calls, batches())
        if bool(moments.mean.isfinite().all() & moments.variance.isfinite().all()):
            norm.running_mean.copy_(moments.mean)
            norm.running_var.copy_(moments.variance)
    return _read(dict(_norms(module)))


@dataclass
class _Moments:
    """Mean and sum of squared deviations per channel, of everything added so far (Chan, Golub and LeVeque 1983)."""

    count: int
    mean: Tensor
    squares: Tensor

    @property
    def variance(self) -> Tensor:
        return self.squares / max(self.count, 1)

    @classmethod
    def of_inputs(cls, module: nn.Module, norm: _BatchNorm, calls: int, batches: Iterable[Tensor]) -> _Moments:
        """Of what ``norm`` receives in ``calls`` calls per forward pass; the passes end there."""
        found = cls(0, *torch.zeros(2, norm.num_features, dtype=torch.float64, device=next(norm.buffers()).device))
        left = calls

        def take(_norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal left
            found.add(inputs[0])
            left -= 1
            if left == 0:
                raise _Enough

        handle = norm.register_forward_pre_hook(take)
        try:
            for images in batches:
                left = calls
                with torch.no_grad():
                    try:
                        module(images.clone())
                    except _Enough:
                        continue
        finally:
            handle.remove()
        return found

    def add(self, values: Tensor) -> None:
        """Take in (B, C, ...)."""
        rows = values.movedim(1, 0).flatten(1).double()  # (C, B ...)
        count, mean = rows.shape[1], rows.mean(1)
        squares = (rows - mean[:, None]).square().sum(1)
        total = self.count + count
        apart = mean - self.mean
        self.squares += squares + apart.square() * (self.count * count / total)
        self.mean += apart * (count / total)
        self.count = total


class _Enough(Exception):
    """Ends a forward pass whose rest is not needed."""


def _with_calls(
    net: Network, params: Tensor, batches: Callable[[], Iterable[Tensor]]
) -> tuple[nn.Module, Counter[str]]:
    """The module on the images' device, and how often a forward pass calls each BatchNorm, in the order they run."""
    images = next(iter(batches()))[:1]
    module = net.module(params.to(images)).to(images.device)
    calls: Counter[str] = Counter()
    handles = [
        norm.register_forward_pre_hook(lambda *_, name=name: calls.update([name])) for name, norm in _norms(module)
    ]
    with torch.no_grad():
        module(images.clone())
    for handle in handles:
        handle.remove()
    return module, calls


def _untouched(norm: _BatchNorm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return not bool(norm.running_mean.any()) and bool((norm.running_var == 1).all())


def _norms(module: nn.Module) -> Iterable[tuple[str, _BatchNorm]]:
    return ((name, norm) for name, norm in module.named_modules() if isinstance(norm, _BatchNorm))


def _read(norms: dict[str, _BatchNorm]) -> Statistics:
    return {
        f"{name}.{buffer}": value.detach().clone()
        for name, norm in norms.items()
        for buffer, value in (("running_mean", norm.running_mean), ("running_var", norm.running_var))
        if value is not None
    }
