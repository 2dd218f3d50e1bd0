"""Problems on TinyImageNet."""

from __future__ import annotations

from . import recipes
from .families import CNN5, CNN7
from .sets import TinyImageNet


class TinyImageNetCNN5(CNN5, TinyImageNet):
    """TinyImageNet, CTBench's cnn_5layer."""

    method = "ibp"
    recipes = recipes.MEDIUM


class TinyImageNetCNN7(CNN7, TinyImageNet):
    """TinyImageNet, CTBench's cnn_7layer_tinyimagenet."""

    method = "ibp"
    last_stride = 2
    recipes = recipes.LARGE
