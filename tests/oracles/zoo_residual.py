"""Zoo networks whose graph branches and joins."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.oracles.dag import Dag


class ResidualDense(nn.Module):
    """x + f(x), the sum straight into the next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.body = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        return self.last(F.relu(h + self.body(h)))

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.first, 0))
        return d.affine(self.last, d.relu(d.add(h, d.chain(self.body, h))))


class AffineBranches(nn.Module):
    """Sums of affine branches with no ReLU in between: intervals lose what the branches share."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 5), nn.Linear(5, 6), nn.Linear(5, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(x + self.a(x))
        return self.last(F.relu(self.b(h) + self.c(h)))

    def dag(self, d: Dag) -> int:
        h = d.relu(d.add(0, d.affine(self.a, 0)))
        return d.affine(self.last, d.relu(d.add(d.affine(self.b, h), d.affine(self.c, h))))


class InputSkip(nn.Module):
    """The input itself is added to a deep branch: the two sides see the same pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 5))
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(torch.add(x, self.body(x))))

    def dag(self, d: Dag) -> int:
        return d.affine(self.last, d.relu(d.add(0, d.chain(self.body, 0))))


class Block(nn.Module):
    """The basic block of a residual network: ``out += shortcut``, a projection where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = None
        if stride != 1 or channels != channels_in:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.shortcut is not None:
            identity = self.shortcut(x)
        out += identity
        return self.relu(out)

    def dag(self, d: Dag, x: int) -> int:
        out = d.relu(d.affine(self.bn1, d.affine(self.conv1, x)))
        out = d.affine(self.bn2, d.affine(self.conv2, out))
        identity = x if self.shortcut is None else d.chain(self.shortcut, x)
        return d.relu(d.add(out, identity))


class ResNet(nn.Module):
    """Stem, a block with identity shortcut, a block with projection, global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.block1 = Block(3, 3, 1)
        self.block2 = Block(3, 4, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        h = self.block2(self.block1(h))
        return self.fc(torch.flatten(self.pool(h), 1))

    def dag(self, d: Dag) -> int:
        h = self.block1.dag(d, d.relu(d.affine(self.stem, 0)))
        h = d.affine(self.pool, self.block2.dag(d, h))
        return d.affine(self.fc, d.flatten(h))


class PreActivationResNet(nn.Module):
    """BatchNorm, ReLU, convolution, in this order, and a sum that nothing follows but BatchNorm."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3 * size * size, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        f = self.conv1(F.relu(self.bn1(h)))
        f = self.conv2(F.relu(self.bn2(f)))
        h = h + f
        return self.fc(F.relu(self.bn3(h)).flatten(1))

    def dag(self, d: Dag) -> int:
        h = d.affine(self.stem, 0)
        f = d.affine(self.conv1, d.relu(d.affine(self.bn1, h)))
        f = d.affine(self.conv2, d.relu(d.affine(self.bn2, f)))
        h = d.add(h, f)
        return d.affine(self.fc, d.flatten(d.relu(d.affine(self.bn3, h))))


class Inception(nn.Module):
    """Branches with windows of different size and place, whose sum is read by convolutions, on large maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.small = nn.Conv2d(2, 2, 1)
        self.large = nn.Conv2d(2, 2, 5, padding=2)
        self.wide = nn.Conv2d(2, 2, (1, 3), padding=(0, 1))
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.reduce = nn.Conv2d(2, 2, 3, stride=2, padding=1)
        self.shortcut = nn.AvgPool2d(2)
        self.fc = nn.Linear(2 * 5 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        h = F.relu(self.small(h) + self.large(h) + F.relu(self.wide(h)) + self.pool(h))
        return self.fc(torch.flatten(F.relu(self.reduce(h) + self.shortcut(h)), 1))

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.stem, 0))
        two = d.add(d.affine(self.small, h), d.affine(self.large, h))
        three = d.add(two, d.relu(d.affine(self.wide, h)))
        h = d.relu(d.add(three, d.affine(self.pool, h)))
        h = d.relu(d.add(d.affine(self.reduce, h), d.affine(self.shortcut, h)))
        return d.affine(self.fc, d.flatten(h))


class BranchThrice(nn.Module):
    """One activation feeds three branches, one of them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.left, self.right = nn.Linear(7, 7), nn.Linear(7, 7)
        self.last = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        return self.last(F.relu(self.left(h) + F.relu(self.right(h)) + h))

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.first, 0))
        left = d.affine(self.left, h)
        right = d.relu(d.affine(self.right, h))
        return d.affine(self.last, d.relu(d.add(d.add(left, right), h)))


class TwoHeads(nn.Module):
    """The logits are the sum of two heads on different features: the margins are folded into both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 6)
        self.head1, self.head2 = nn.Linear(7, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x).relu()
        b = self.second(a).relu()
        return self.head1(a) + self.head2(b)

    def dag(self, d: Dag) -> int:
        a = d.relu(d.affine(self.first, 0))
        b = d.relu(d.affine(self.second, a))
        return d.add(d.affine(self.head1, a), d.affine(self.head2, b))


class Doubled(nn.Module):
    """The same value added to itself, before a ReLU and after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        h = F.relu(z + z)
        return self.last(F.relu(self.second(h + h)))

    def dag(self, d: Dag) -> int:
        z = d.affine(self.first, 0)
        h = d.relu(d.add(z, z))
        return d.affine(self.last, d.relu(d.affine(self.second, d.add(h, h))))


class Cancelling(nn.Module):
    """relu(z) and z of the same z are summed: a relaxation must not treat the two as independent of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mix, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        return self.last(F.relu(self.mix(F.relu(z)) + z) + z)

    def dag(self, d: Dag) -> int:
        z = d.affine(self.first, 0)
        h = d.relu(d.add(d.affine(self.mix, d.relu(z)), z))
        return d.affine(self.last, d.add(h, z))
