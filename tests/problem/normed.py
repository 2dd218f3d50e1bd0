"""A problem whose network holds BatchNorm."""

from __future__ import annotations

from torch import nn

from tests.problem.toys import CLASSES, Blobs


class NormedBlobs(Blobs):
    """Points in a cube, by a perceptron with BatchNorm."""

    def make_network(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(),
            nn.Linear(5, CLASSES),
        )  # fmt: skip
