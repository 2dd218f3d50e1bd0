"""Networks that are robust in real arithmetic, while a step of their float32 execution overflows or underflows.

Each comes with an image that float32 classifies as 0, a radius, and a point of the ball that it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Step = Callable[[Tensor], Tensor]


class Trap(nn.Module):
    """A layer, something in between, and the logits (offset - slope · that, 0, -10000)."""

    def __init__(self, first: nn.Module, between: Step, slope: float, offset: float) -> None:
        super().__init__()
        self.first, self.last = first, linear([[-slope], [0.0], [0.0]], [offset, 0.0, -1e4])
        self.between = between
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)).flatten(1))


@dataclass(frozen=True)
class Extreme:
    """A trap, the image whose pixels are all ``centre``, a radius, and the point whose pixels are all ``beside``."""

    net: Trap
    shape: tuple[int, ...]
    centre: float
    eps: float
    beside: float
    reason: str

    @property
    def image(self) -> Tensor:
        return torch.full(self.shape, self.centre)

    @property
    def point(self) -> Tensor:
        return torch.full(self.shape, self.beside)


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def conv(weight: float) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(weight)
    return layer


def norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, *, mean: float = 0.0, var: float, gamma: float) -> nn.Module:
    with torch.no_grad():
        layer.running_mean.fill_(mean)
        layer.running_var.fill_(var)
        layer.weight.fill_(gamma)
    return layer


class Residual(nn.Module):
    """BatchNorm after an addition, which no layer absorbs."""

    def __init__(self, weight: float, after: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.after = linear([[weight]], [0.0]), linear([[weight]], [0.0]), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.one(x) + self.two(x))


def _overflowing() -> dict[str, Extreme]:
    wide = nn.Sequential(linear([[3e38, 3e38]], [0.0]), norm(nn.BatchNorm1d(1), var=1e38, gamma=1e-19))
    maps = nn.Sequential(nn.Conv2d(2, 1, 1), norm(nn.BatchNorm2d(1), var=1e38, gamma=1e-19))
    with torch.no_grad():
        maps[0].weight.fill_(3e38)
        maps[0].bias.zero_()
    steep = nn.Sequential(linear([[1e-4]], [-0.4e-4]), norm(nn.BatchNorm1d(1), mean=1e-5, var=0.0, gamma=1e37))
    added = Residual(3e38, norm(nn.BatchNorm1d(1), var=1e38, gamma=1e-19))
    pools: dict[str, Step] = {
        "average pool": lambda z: F.avg_pool2d(torch.relu(z), 4),
        "adaptive pool": lambda z: F.adaptive_avg_pool2d(torch.relu(z), 1),
        "mean": lambda z: torch.relu(z).mean((2, 3)),
        "overlapping pool": lambda z: F.avg_pool2d(torch.relu(z), (4, 4), stride=1, divisor_override=16),
    }
    chains: dict[str, Step] = {
        "sum before a product": lambda z: (z + 3.2e38) * 1e-38,
        "sum before a quotient": lambda z: (z + 3.2e38) / 1e38,
        "difference before a product": lambda z: (-z - 3.2e38) * -1e-38,
        "product before a product": lambda z: z * 9.5 * 0.1e-37,
        "product before a quotient": lambda z: z * 9.5 / 1e38,
    }
    found = {
        "sum before BatchNorm": Extreme(Trap(wide, torch.relu, 1.0, 10.0), (2,), 0.4, 0.3, 0.7, "overflow"),
        "map before BatchNorm": Extreme(Trap(maps, torch.relu, 1.0, 10.0), (2, 1, 1), 0.4, 0.3, 0.7, "overflow"),
        "addition before BatchNorm": Extreme(Trap(added, torch.relu, 1.0, 10.0), (1,), 0.4, 0.3, 0.7, "overflow"),
        "factor of BatchNorm": Extreme(Trap(steep, torch.relu, 1e-36, 10.0), (1,), 0.3, 0.2, 0.5, "overflow"),
    }
    for name, pool in pools.items():
        found[name] = Extreme(Trap(conv(1e38), pool, 1e-38, 10.0), (1, 4, 4), 0.2, 0.05, 0.24, "overflow")
    for name, chain in chains.items():
        found[name] = Extreme(Trap(linear([[5e37]], [0.0]), chain, 1.0, 10.0), (1,), 0.3, 0.5, 0.79, "overflow")
    return found


def _underflowing() -> dict[str, Extreme]:
    """Subnormal numbers are multiples of 2^-149: x times twice that becomes a half or a whole multiple of it."""
    lost = nn.Sequential(linear([[2.0**-148]], [0.0]), norm(nn.BatchNorm1d(1, eps=1e-30), var=1.0, gamma=2.0**100))
    dim = nn.Sequential(
        linear([[2.0**100]], [0.0]), norm(nn.BatchNorm1d(1, eps=1e-30), var=float(0.7**-2), gamma=2.0**-149)
    )
    return {
        "products before BatchNorm": Extreme(
            Trap(lost, lambda z: torch.relu(z) * 2.0**48, -1.0, -0.1), (1,), 0.35, 0.15, 0.22, "underflow"
        ),
        "factor of BatchNorm": Extreme(
            Trap(dim, lambda z: torch.relu(z) * 2.0**49, 1.0, 0.35), (1,), 0.3, 0.15, 0.44, "underflow"
        ),
        "product before a product": Extreme(
            Trap(linear([[2.0**-100]], [0.0]), lambda z: torch.relu(z) * 2.0**-48 * 2.0**100 * 2.0**48, -1.0, -0.1),
            (1,),
            0.35,
            0.15,
            0.22,
            "underflow",
        ),
        "constant": Extreme(
            Trap(linear([[2.0**100]], [0.0]), lambda z: torch.relu(z) * (1.3 * 2.0**-149) * 2.0**49, -1.0, -0.25),
            (1,),
            0.3,
            0.1,
            0.21,
            "underflow",
        ),
        "quotient of a pool": Extreme(
            Trap(conv(2.0**-146), lambda z: F.avg_pool2d(torch.relu(z), 2) * 2.0**100 * 2.0**46, -1.0, -0.05),
            (1, 2, 2),
            0.1,
            0.045,
            0.06,
            "underflow",
        ),
    }


EXTREMES = {f"overflow: {name}": case for name, case in _overflowing().items()}
EXTREMES |= {f"underflow: {name}": case for name, case in _underflowing().items()}
