"""Every activation that gls_es reads, as users write it, and small networks that hold one twice."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Written(nn.Module):
    """An activation that is written as an expression."""

    def __init__(self, expression: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.expression = expression

    def forward(self, x: Tensor) -> Tensor:
        return self.expression(x)


def _prelu(*slopes: float) -> nn.PReLU:
    module = nn.PReLU(len(slopes))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(slopes))
    return module


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "abs": lambda: Written(torch.abs),
    "celu": lambda: nn.CELU(0.7),
    "clamp": lambda: Written(lambda x: x.clamp(-0.5, 0.75)),
    "elu": lambda: nn.ELU(1.5),
    "gelu": nn.GELU,
    "gelu-tanh": lambda: nn.GELU("tanh"),
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardtanh": lambda: nn.Hardtanh(-0.4, 0.6),
    "leaky-relu": lambda: nn.LeakyReLU(0.1),
    "maximum": lambda: Written(lambda x: torch.maximum(x, torch.tensor(0.2))),
    "minimum": lambda: Written(lambda x: x.clamp(max=0.3)),
    "prelu": lambda: _prelu(0.25),
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": lambda: nn.Softplus(2.0, 20.0),
    "tanh": nn.Tanh,
    "threshold": lambda: nn.Threshold(0.1, 0.1),
}
"""One spelling of each."""

SPELLINGS: dict[str, Callable[[], nn.Module]] = {
    "clamp_": lambda: Written(lambda x: x.clone().clamp_(-1, 1)),
    "clamp of tensors": lambda: Written(lambda x: torch.clamp(x, min=torch.tensor([[0.1, -0.2, 0.3, 0.0, 1.0]]))),
    "clamp_min": lambda: Written(lambda x: x.clamp_min(0.3)),
    "clamp from 0": lambda: Written(lambda x: x.clamp(min=0)),
    "clip without end": lambda: Written(lambda x: torch.clip(x, -0.1, float("inf"))),
    "leaky in place": lambda: nn.Sequential(nn.Identity(), nn.LeakyReLU(-0.3, inplace=True)),
    "gelu by erf": lambda: Written(lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))),
    "gelu by erf of another slope": lambda: Written(lambda x: (torch.erf(x * -0.6) + 1.0) * x),
    "max of two": lambda: Written(lambda x: torch.maximum(x, 0.5 - x)),
    "min of two": lambda: Written(lambda x: torch.min(x, 0.3 * x.abs())),
    "prelu by channel": lambda: _prelu(0.1, -0.2, 0.3, 1.5, 0.0),
    "relu6 in place": lambda: nn.ReLU6(inplace=True),
    "silu as a product": lambda: Written(lambda x: torch.sigmoid(x) * x),
    "sigmoid_": lambda: Written(lambda x: x.clone().sigmoid_()),
    "F": lambda: Written(lambda x: F.silu(F.hardtanh(F.leaky_relu(x, 0.2), 0.0, 6.0))),
}
"""Others."""


def dense_net(make: Callable[[], nn.Module], *, gain: float = 2.0, seed: int = 0) -> nn.Module:
    """Five inputs, two layers of five activations, three classes."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(5, 5), make(), nn.Linear(5, 5), make(), nn.Linear(5, 3))
    return _enlarged(module, gain)


def conv_net(make: Callable[[], nn.Module], *, seed: int = 0) -> nn.Module:
    """Maps with padding, which is zero and not f(0), a strided layer, and an activation before and behind a flatten."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 3, 3, padding=1), make(), nn.Conv2d(3, 4, 3, stride=2, padding=1), make(), nn.Flatten()
    return _enlarged(nn.Sequential(*layers, nn.Linear(64, 5), make(), nn.Linear(5, 3)), 1.5)


class Residual(nn.Module):
    """A skip connection around two activations, and another right behind the sum."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.f, self.g, self.h = make(), make(), make()

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        return self.last(self.h(z + self.g(self.second(self.f(z)))))


def residual_net(make: Callable[[], nn.Module], *, seed: int = 0) -> nn.Module:
    """A :class:`Residual` with weights drawn for a seed."""
    torch.manual_seed(seed)
    return _enlarged(Residual(make), 2.0)


def _enlarged(module: nn.Module, gain: float) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.mul_(gain)
    return module.eval()
