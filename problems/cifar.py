"""Problems on CIFAR-10."""

from __future__ import annotations

from . import recipes
from .families import CNN3, CNN5, CNN7
from .sets import Cifar10


class CifarCNN3(CNN3, Cifar10):
    """CIFAR-10, CTBench's cnn_3layer_small."""

    recipes = recipes.SMALL


class CifarCNN3Wide(CifarCNN3):
    """CIFAR-10, CTBench's cnn_3layer."""

    width = 16
    growth = 2
    method = "crown-ibp"


class CifarCNN5(CNN5, Cifar10):
    """CIFAR-10, CTBench's cnn_5layer."""

    method = "crown-ibp"
    recipes = recipes.MEDIUM


class CifarCNN7(CNN7, Cifar10):
    """CIFAR-10, CTBench's cnn_7layer_bn."""

    method = "ibp"
    recipes = recipes.LARGE
