"""Problems on MNIST."""

from __future__ import annotations

from . import recipes
from .families import CNN3, CNN5, CNN7
from .sets import Mnist


class MnistCNN3(CNN3, Mnist):
    """MNIST, CTBench's cnn_3layer_small."""

    recipes = recipes.SMALL


class MnistCNN3Wide(MnistCNN3):
    """MNIST, CTBench's cnn_3layer."""

    width = 16
    growth = 2
    method = "crown-ibp"


class MnistCNN5(CNN5, Mnist):
    """MNIST, CTBench's cnn_5layer."""

    method = "crown-ibp"
    recipes = recipes.MEDIUM


class MnistCNN7(CNN7, Mnist):
    """MNIST, CTBench's cnn_7layer_bn."""

    method = "ibp"
    recipes = recipes.LARGE
