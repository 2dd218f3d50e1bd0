"""The 1,797 handwritten digits of 8x8 pixels that come with gls-es: a real problem that needs no download.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49, licence CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); these are the rows of its test
file, which scikit-learn ships too. Each pixel counts the ink in a 4x4 block of the scan, 0..16. The file
``digits.csv.gz`` holds one image a line, 64 pixels row by row and then the label; see ``digits_LICENSE.txt``.

The source has no train/test split of these rows, so :func:`held_out_rows` fixes one. Writers occur in both parts.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from gls_es.data.dataset import Dataset, Split
from gls_es.errors import DataError

FILE = "digits.csv.gz"
SHA256 = "e31b7ccbf8cc2b158de948b1bb7a67bf39a856fb064b3aa8ef489f12a2dc4b63"


def load_digits() -> Dataset:
    """The built-in digits: 1,437 to train and 360 to test, images (N, 1, 8, 8) uint8 in 0..16, ten classes.

    Returns:
        Dataset ``"digits"`` with ``scale`` 16; rows keep the order of the source within each split.

    Raises:
        DataError: if the file in the installed package is missing or damaged.
    """
    table = _read_table()
    images = torch.from_numpy(table[:, :64].reshape(-1, 1, 8, 8).copy())
    labels = torch.from_numpy(table[:, 64].astype(np.int64))
    everything = Split(images=images, labels=labels, scale=16.0)
    test = held_out_rows(labels.tolist())
    return Dataset(name="digits", train=everything.subset(~test), test=everything.subset(test), num_classes=10)


def held_out_rows(labels: Sequence[int]) -> Tensor:
    """Which rows are the test split: the same on every machine, stratified, and tied to no library's random numbers.

    Rows are sorted by (label, SHA-256 of the row number in decimal), and every fifth of them, from the first on, is
    held out. Each class thus gives a fifth of its rows, to within one. (Every fifth row of the file itself would be
    uneven, 26 ones and 48 threes: much of it runs 0, 1, ..., 9 over and over.)

    Args:
        labels: the N labels in the order of the file.

    Returns:
        (N,) bool, true for the ceil(N / 5) rows of the test split.
    """
    order = sorted(range(len(labels)), key=lambda row: (labels[row], hashlib.sha256(str(row).encode()).digest()))
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[order[::5]] = True
    return mask


def _read_table() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """The packaged file as (1797, 65) bytes."""
    mend = "; install gls-es again"
    try:
        packed = resources.files("gls_es.data").joinpath(FILE).read_bytes()
    except OSError as error:
        raise DataError(f"the built-in digits, gls_es/data/{FILE}, cannot be read ({error}){mend}.") from error
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise DataError(f"the built-in digits, gls_es/data/{FILE}, are damaged (SHA-256 differs){mend}.")
    lines = gzip.decompress(packed).split()
    return np.array([[int(number) for number in line.split(b",")] for line in lines], dtype=np.uint8)
