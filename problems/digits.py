"""Problems on the built-in 8x8 handwritten digits: no download, minutes on a laptop."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from gls_es.data import Dataset, load_digits
from gls_es.problem import CertifiedTrainingProblem
from gls_es.recipe import Recipe

from .nets import digits_cnn3


class DigitsCNN3(CertifiedTrainingProblem):
    """8x8 handwritten digits (built in), a 3-layer CNN of 1,258 parameters."""

    eps = 0.1
    method = "crown"
    data_source = "built in"
    recipes: ClassVar[dict[str, Recipe]] = {
        # No warm start under a cheaper relaxation is needed: natural training, then eps grows under CROWN itself.
        "pgpe": Recipe(
            generations=3500,
            popsize=64,
            batch_size=32,
            center_learning_rate=0.01,
            learning_rate_end=0.05,
            stdev_init=0.03,
            natural_until=400,
            ramp_until=1500,
            eps_factor=1.15,
            evaluate_every=250,
        ),
        "rgs": Recipe(
            generations=1000,
            popsize=8,
            batch_size=32,
            center_learning_rate=0.01,
            learning_rate_end=0.05,
            stdev_init=0.01,
            natural_until=100,
            ramp_until=500,
            eps_factor=1.1,
        ),
        "grad": Recipe(
            generations=3000,
            popsize=1,
            batch_size=64,
            center_learning_rate=0.01,
            learning_rate_end=0.05,
            stdev_init=0.0,
            natural_until=200,
            ramp_until=1500,
            eps_factor=1.1,
        ),
    }

    def make_network(self) -> nn.Module:
        """Conv 3x3 /2 -> 8, conv 2x2 /2 -> 16, linear -> 10."""
        return digits_cnn3()

    def make_data(self) -> Dataset:
        """1,437 training and 360 test images."""
        return load_digits()
