"""A radius for each pixel: what if only a part of the picture may change?

    python examples/pixel_radii.py

The middle of a digit may change by 0.05 and its rim, four times as noisy, by 0.2. A network is trained for these radii,
and another for 0.05 everywhere; both are certified for the rim's noise. Takes about twenty seconds.
"""

from __future__ import annotations

import tempfile

import torch
from torch import nn

import gls_es
from gls_es.data import load_digits

RADII = torch.full((8, 8), 0.2, dtype=torch.float64)
RADII[1:-1, 1:-1] = 0.05


def main(generations: int = 1500, images: int = 360) -> dict[str, gls_es.CertificationReport]:
    """The reports of both networks at ``RADII``."""
    digits = load_digits()
    x, y = digits.test.batch(slice(0, images))
    found = {}
    with tempfile.TemporaryDirectory() as runs:
        for number, (name, eps) in enumerate({"each pixel's own": RADII, "0.05 everywhere": 0.05}.items()):
            torch.manual_seed(0)
            module = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
            trained = gls_es.train(
                module, digits, eps=eps, searcher="grad", method="ibp", generations=generations, out=f"{runs}/{number}"
            )
            found[name] = gls_es.certify(trained.module, x, y, RADII, stages=("attack", "ibp", "crown"))
            print(f"trained with {name}: certified {found[name].certified_accuracy:.1%}")
    return found


if __name__ == "__main__":
    main()
