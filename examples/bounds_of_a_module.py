"""Bounds of a network that plain PyTorch trained, by several relaxations, and the radius up to which each certifies.

    python examples/bounds_of_a_module.py

Any ``nn.Module`` made of linear and convolutional layers, ReLUs, BatchNorm, average pooling and sums will do, from
wherever its weights come. Takes about five seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gls_es
from gls_es.data import load_digits

METHODS = ("ibp", "crown-ibp", "crown", "best")
RADII = (0.005, 0.01, 0.02, 0.04)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, with BatchNorm: nothing here knows of gls-es."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 1, 8, 8) in [0, 1]."""
        x = self.stem(x)
        logits: Tensor = self.head(x + self.block(x))
        return logits


def trained(steps: int) -> nn.Module:
    """The network after ``steps`` of ordinary training, which knows nothing of robustness."""
    torch.manual_seed(0)
    module, (images, labels) = Residual(), load_digits().train.batch()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.005)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images[rows]), labels[rows]).backward()
        optimizer.step()
    return module


def main(steps: int = 300, images: int = 100) -> dict[str, list[float]]:
    """Print and return the share of test images whose margins every relaxation proves positive, by method."""
    net = gls_es.Network(trained(steps), input_shape=(1, 8, 8))  # a copy in eval mode; refuses what has no bounds
    x, y = load_digits().test.batch(slice(0, images))
    shares: dict[str, list[float]] = {method: [] for method in METHODS}
    for eps in RADII:
        lower, upper = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
        for method in METHODS:
            with torch.no_grad():
                margins = gls_es.bounds.margins(net, lower, upper, y, method=method)[0]  # (images, 9)
            shares[method].append(float((margins > 0).all(1).double().mean()))
    natural = float((net.logits(x)[0].argmax(1) == y).double().mean())
    print(f"{natural:.0%} of {images} images are classified right; with all margins > 0 in the box:")
    print(f"{'radius':<10}" + "".join(f"{eps:>8g}" for eps in RADII))
    for method, found in shares.items():
        print(f"{method:<10}" + "".join(f"{share:>8.0%}" for share in found))
    return shares


if __name__ == "__main__":
    main()
