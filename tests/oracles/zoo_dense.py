"""Zoo networks of fully-connected layers."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from tests.oracles.dag import Dag


class Chain(nn.Module):
    """A plain sequence; its structure is its list of modules."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def dag(self, d: Dag) -> int:
        return d.chain(self.body, 0)


def mlp() -> nn.Module:
    return Chain(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))


def mlp_deep() -> nn.Module:
    widths = [5, 8, 8, 8, 8]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return Chain(*layers, nn.Linear(8, 3))


def mlp_without_bias() -> nn.Module:
    return Chain(nn.Linear(6, 9, bias=False), nn.ReLU(), nn.Linear(9, 3, bias=False))


def mlp_two_classes() -> nn.Module:
    return Chain(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def consecutive_linear() -> nn.Module:
    """No ReLU between two pairs of layers: intervals are propagated through one, then the other."""
    return Chain(nn.Linear(5, 9), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 6), nn.Linear(6, 4))


def affine_single() -> nn.Module:
    return Chain(nn.Flatten(), nn.Linear(12, 4))


def affine_chain() -> nn.Module:
    return Chain(nn.Conv2d(1, 3, 3, padding=1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 6), nn.Linear(6, 4))


def batch_norm_1d() -> nn.Module:
    return Chain(
        nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)
    )


def batch_norm_1d_before() -> nn.Module:
    """BatchNorm on the input and after a ReLU, before the Linear."""
    return Chain(
        nn.BatchNorm1d(6), nn.Linear(6, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)
    )


def batch_norm_without_affine() -> nn.Module:
    return Chain(nn.Linear(6, 9), nn.BatchNorm1d(9, affine=False, eps=1e-2), nn.ReLU(), nn.Linear(9, 3))


def dropout() -> nn.Module:
    return Chain(
        nn.Identity(), nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 7), nn.Identity(), nn.ReLU(),
        nn.Linear(7, 3), nn.Dropout(0.5),
    )  # fmt: skip


def relu_first() -> nn.Module:
    """The first ReLU acts on the input itself."""
    return Chain(nn.ReLU(), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def relu_twice() -> nn.Module:
    return Chain(nn.Linear(5, 7), nn.ReLU(), nn.ReLU(), nn.Linear(7, 3))


def relu_last() -> nn.Module:
    """No affine layer after the last ReLU: the margin matrix is a layer of its own."""
    return Chain(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3), nn.ReLU())


def batch_norm_last() -> nn.Module:
    """The logits are normalised: the margins pass the BatchNorm, which mixes nothing, into the Linear before it."""
    return Chain(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.BatchNorm1d(4))


class SharedLayer(nn.Module):
    """One Linear called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.middle = nn.Linear(7, 7)
        self.last = nn.Linear(7, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.first(x))
        h = self.relu(self.middle(h))
        h = self.relu(self.middle(h))
        return self.last(h)

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.first, 0))
        h = d.relu(d.affine(self.middle, h))
        h = d.relu(d.affine(self.middle, h))
        return d.affine(self.last, h)


class TiedWeights(SharedLayer):
    """Two layers that hold the same weight (one parameter) and different biases."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(7, 7)
        self.other.weight = self.middle.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.first(x))
        h = self.relu(self.middle(h))
        h = self.relu(self.other(h))
        return self.last(h)

    def dag(self, d: Dag) -> int:
        h = d.relu(d.affine(self.first, 0))
        h = d.relu(d.affine(self.middle, h))
        h = d.relu(d.affine(self.other, h))
        return d.affine(self.last, h)


class OutOfOrder(nn.Module):
    """Modules are registered in another order than called, one is never called, and one parameter is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(7, 3)
        self.unused = nn.Linear(2, 2)
        self.first = nn.Linear(5, 7)
        self.first.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())

    def dag(self, d: Dag) -> int:
        return d.affine(self.last, d.relu(d.affine(self.first, 0)))
