"""Problems on Fashion-MNIST."""

from __future__ import annotations

from . import recipes
from .families import CNN3, CNN5, CNN7
from .sets import FashionMnist


class FashionCNN3(CNN3, FashionMnist):
    """Fashion-MNIST, CTBench's cnn_3layer_small."""

    recipes = recipes.SMALL


class FashionCNN3Wide(FashionCNN3):
    """Fashion-MNIST, CTBench's cnn_3layer."""

    width = 16
    growth = 2
    method = "crown-ibp"


class FashionCNN5(CNN5, FashionMnist):
    """Fashion-MNIST, CTBench's cnn_5layer."""

    method = "crown-ibp"
    recipes = recipes.MEDIUM


class FashionCNN7(CNN7, FashionMnist):
    """Fashion-MNIST, CTBench's cnn_7layer_bn."""

    method = "ibp"
    recipes = recipes.LARGE
