"""Architectures of the named problems."""

from __future__ import annotations

from torch import nn


def digits_cnn3() -> nn.Sequential:
    """Two strided convolutions and a linear layer for 8x8 images; 1,258 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, kernel_size=2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
