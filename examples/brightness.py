"""Does a digit keep its class in any light? Brightness and contrast as a layer in front of a network.

    python examples/brightness.py

Pixels move together here, so that far larger changes can be certified than with a radius for every pixel. The network
comes with gls-es. Takes about ten seconds.
"""

from __future__ import annotations

import torch
from torch import nn

import gls_es
from gls_es.data import load_digits

MIDDLE = torch.full((1, 2), 0.5)  # brightness and contrast as they are


def main(images: int = 20, brightness: float = 0.1, contrast: float = 0.1) -> dict[str, int]:
    """How many of the first test images are certified, falsified, misclassified or unknown."""
    network = gls_es.load("zoo:digits-cnn3")
    verdicts: dict[str, int] = {}
    for image, label in zip(*load_digits().test.batch(slice(0, images)), strict=True):
        lit = nn.Sequential(gls_es.Lighting(image, brightness=brightness, contrast=contrast), network)
        report = gls_es.certify(lit, MIDDLE, [int(label)], 0.5, timeout=1.0)  # all of [0, 1] x [0, 1]
        (verdict,) = report.verdicts
        verdicts[verdict.verdict] = verdicts.get(verdict.verdict, 0) + 1
    print(f"brightness to ±{brightness}, contrast to a factor of 1 ± {contrast}: {verdicts}")
    return verdicts


if __name__ == "__main__":
    main()
