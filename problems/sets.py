"""The data sets of the named problems as base classes: images, normalisation, radii of the literature, augmentation.

Normalisation constants and radii are those of eth-sri/CTBench; see ``docs/problems.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.data import (
    Dataset,
    find_cifar10,
    find_fashion_mnist,
    find_mnist,
    find_tinyimagenet,
    load_cifar10,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    load_tinyimagenet,
    random_crop_replicate,
    random_flip,
)
from gls_es.problem import CertifiedTrainingProblem

from .nets import ImageFormat


class Digits(CertifiedTrainingProblem):
    """The built-in 8x8 handwritten digits; normalised by the mean and deviation of their training pixels."""

    image = ImageFormat(shape=(1, 8, 8), mean=(0.305,), std=(0.376,), classes=10)
    eps = 0.1
    radii = (0.1,)
    data_source = "built in"

    def make_data(self) -> Dataset:
        """1,437 training and 360 test images."""
        return load_digits()


class Mnist(CertifiedTrainingProblem):
    """MNIST, no augmentation."""

    image = ImageFormat(shape=(1, 28, 28), mean=(0.1307,), std=(0.3081,), classes=10)
    eps = 0.1
    radii = (0.1, 0.3)
    data_source = "MNIST"

    def make_data(self) -> Dataset:
        """60,000 training and 10,000 test images."""
        return load_mnist(self.data_root)

    @classmethod
    def find_data(cls, root: str | None = None) -> str:
        """The folder of the files."""
        return str(find_mnist(root))


class FashionMnist(CertifiedTrainingProblem):
    """Fashion-MNIST, normalised by the mean and deviation of its training pixels, no augmentation."""

    image = ImageFormat(shape=(1, 28, 28), mean=(0.2860,), std=(0.3530,), classes=10)
    eps = 0.1
    radii = (0.1,)
    data_source = "Fashion-MNIST"

    def make_data(self) -> Dataset:
        """60,000 training and 10,000 test images."""
        return load_fashion_mnist(self.data_root)

    @classmethod
    def find_data(cls, root: str | None = None) -> str:
        """The folder of the files."""
        return str(find_fashion_mnist(root))


class Cifar10(CertifiedTrainingProblem):
    """CIFAR-10, flipped and shifted by up to two pixels."""

    image = ImageFormat(shape=(3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010), classes=10)
    eps = 2 / 255
    radii = (2 / 255, 8 / 255)
    data_source = "CIFAR-10"

    def make_data(self) -> Dataset:
        """50,000 training and 10,000 test images."""
        return load_cifar10(self.data_root)

    @classmethod
    def find_data(cls, root: str | None = None) -> str:
        """The folder of the files."""
        return str(find_cifar10(root))

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A flip, and a crop of 32x32 after padding by two edge pixels."""
        return random_crop_replicate(random_flip(images, generator), generator, pad=2)


class TinyImageNet(CertifiedTrainingProblem):
    """TinyImageNet, flipped and shifted by up to four pixels."""

    image = ImageFormat(shape=(3, 64, 64), mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262), classes=200)
    eps = 1 / 255
    radii = (1 / 255,)
    data_source = "TinyImageNet"

    def make_data(self) -> Dataset:
        """100,000 training images, and the 10,000 published validation images as test images."""
        return load_tinyimagenet(self.data_root)

    @classmethod
    def find_data(cls, root: str | None = None) -> str:
        """The folder of the files."""
        return str(find_tinyimagenet(root))

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A flip, and a crop of 64x64 after padding by four edge pixels."""
        return random_crop_replicate(random_flip(images, generator), generator, pad=4)
