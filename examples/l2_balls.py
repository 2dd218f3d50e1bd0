"""One network trained for L∞ balls and one for L2 balls, each certified on both.

    python examples/l2_balls.py

An L∞ ball changes every pixel a little; an L2 ball may change one pixel a lot, or all of them a little less. The usual
relaxation, crown-ibp, knows both. Takes about twenty seconds.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import nn

import gls_es
from gls_es.data import load_digits

REGIONS: dict[str, dict[str, Any]] = {"linf 0.1": {"eps": 0.1}, "l2 0.4": {"eps": 0.4, "norm": "l2"}}


def main(generations: int = 600, images: int = 360) -> dict[tuple[str, str], float]:
    """Certified accuracies, by the region of the training and the region of the certification."""
    digits = load_digits()
    x, y = digits.test.batch(slice(0, images))
    found = {}
    with tempfile.TemporaryDirectory() as runs:
        for number, (trained_for, region) in enumerate(REGIONS.items()):
            torch.manual_seed(0)
            module = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
            trained = gls_es.train(
                module, digits, **region, searcher="grad", generations=generations, out=f"{runs}/{number}"
            )
            for name, certified_for in REGIONS.items():
                report = gls_es.certify(trained.module, x, y, **certified_for, stages=("attack", "ibp", "crown"))
                found[trained_for, name] = report.certified_accuracy
                print(
                    f"trained for {trained_for:8}  certified for {name:8}  natural {report.natural_accuracy:.1%}  "
                    f"certified {report.certified_accuracy:.1%}  adversarial {report.adversarial_accuracy:.1%}"
                )
    return found


if __name__ == "__main__":
    main()
