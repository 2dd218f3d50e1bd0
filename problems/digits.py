"""Problems on the built-in 8x8 handwritten digits: no download, minutes on a laptop."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from gls_es.problem.recipe import Recipe

from . import nets, recipes
from .families import CNN3, CNN5, CNN7
from .sets import Digits


class DigitsCNN3(CNN3, Digits):
    """8x8 digits, 2 convolutions and a linear layer."""

    recipes: ClassVar[dict[str, Recipe]] = {
        # No warm start under a cheaper relaxation: natural training, then eps grows under CROWN itself. What stands in
        # for it on most images leaves the estimate without a bias.
        "pgpe": Recipe(
            generations=8000,
            popsize=64,
            batch_size=64,
            candidates=4,
            stand_in="crown-ibp",
            exact_images=4,
            center_learning_rate=0.01,
            learning_rate_end=0.05,
            stdev_init=0.08,
            stdev_end=0.3,
            natural_until=300,
            ramp_until=1500,
            eps_factor=1.08,
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
        """Conv 3x3 /2 -> width, conv 2x2 /2 -> 2 width, linear -> 10."""
        return nets.digits_cnn3(self.width)


class DigitsCNN5(CNN5, Digits):
    """8x8 digits, a small CNN5."""

    width = 8
    hidden = 64
    method = "crown-ibp"
    recipes = recipes.MEDIUM


class DigitsCNN7(CNN7, Digits):
    """8x8 digits, a small CNN7 with BatchNorm."""

    width = 8
    hidden = 64
    method = "crown-ibp"
    recipes = recipes.MEDIUM
