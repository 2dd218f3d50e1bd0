"""Problems on TinyImageNet."""

from __future__ import annotations

from . import recipes
from .families import CNN5, CNN7
from .sets import TinyImageNet


class TinyImageNetCNN5(CNN5, TinyImageNet):
    """TinyImageNet, 3 convolutions and 2 linear layers (CTBench's cnn_5layer)."""

    method = "crown-ibp"
    recipes = recipes.MEDIUM


class TinyImageNetCNN7(CNN7, TinyImageNet):
    """TinyImageNet, 5 convolutions and 2 linear layers with BatchNorm (CTBench's cnn_7layer_tinyimagenet)."""

    method = "ibp"
    last_stride = 2
    recipes = recipes.LARGE
