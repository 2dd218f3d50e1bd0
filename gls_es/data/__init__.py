"""Datasets as tensors in memory, checked byte for byte, and augmentation of a batch.

Pixels are in [0, 1] once a batch is taken (:meth:`Split.batch`), and eps is in that same scale; normalisation is a
layer of the network. Nothing here touches a network or shuffles: row ``i`` of a split is always the same image.
"""

from gls_es.data.augmentation import random_crop_replicate as random_crop_replicate
from gls_es.data.augmentation import random_flip as random_flip
from gls_es.data.cifar10 import load_cifar10 as load_cifar10
from gls_es.data.columns import Columns as Columns
from gls_es.data.columns import read_csv as read_csv
from gls_es.data.dataset import Dataset as Dataset
from gls_es.data.dataset import Split as Split
from gls_es.data.digits import load_digits as load_digits
from gls_es.data.idx import load_fashion_mnist as load_fashion_mnist
from gls_es.data.idx import load_mnist as load_mnist
from gls_es.data.intake import as_dataset as as_dataset
from gls_es.data.intake import as_split as as_split
from gls_es.data.places import find_cifar10 as find_cifar10
from gls_es.data.places import find_fashion_mnist as find_fashion_mnist
from gls_es.data.places import find_mnist as find_mnist
from gls_es.data.places import find_tinyimagenet as find_tinyimagenet
from gls_es.data.roots import default_root as default_root
from gls_es.data.tinyimagenet import load_tinyimagenet as load_tinyimagenet

__all__ = [
    "Columns",
    "Dataset",
    "Split",
    "as_dataset",
    "as_split",
    "default_root",
    "find_cifar10",
    "find_fashion_mnist",
    "find_mnist",
    "find_tinyimagenet",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_tinyimagenet",
    "random_crop_replicate",
    "random_flip",
    "read_csv",
]
