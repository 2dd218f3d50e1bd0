"""The checks of arguments that many entrances share."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from gls_es.basics import checks
from gls_es.errors import ConfigError

NAN = float("nan")


@pytest.mark.parametrize("value", [None, True, 1.0, "1", NAN, [1], -1, 8, torch.tensor(1)])
def test_what_is_no_whole_number_of_the_range(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^count must be .*between 0 and 7, not "):
        checks.whole_number("count", value, least=0, most=7)


def test_numbers_that_python_does_not_write_out_are_refused_in_words() -> None:
    for refuse in (checks.seed_number, checks.radius):
        with pytest.raises(ConfigError, match="not int that cannot be written out"):
            refuse(10**5000)


def test_whole_numbers_of_numpy_become_pythons() -> None:
    assert type(checks.whole_number("count", np.int64(7), least=0)) is int


@pytest.mark.parametrize(
    "value",
    [
        "8/0",
        "a",
        "-1/255",
        "1/2/3",
        "٣/255",
        [0.1, 0.2],
        None,
        True,
        NAN,
        -0.1,
        1.5,
        float("inf"),
        1j,
        b"1",
        10**400,
        Fraction(1, 10**500),
        "1e-999",
        torch.tensor(0.1),
        np.ones(2),
    ],
)
def test_what_is_no_radius(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"eps must be .*between 0 and 1, in pixel units"):
        checks.radius(value)


def test_radii_of_bytes_are_offered_as_fractions() -> None:
    for value in (8, 8.0, "8", np.float32(8)):
        with pytest.raises(ConfigError, match=r"did you mean '8/255'\?$"):
            checks.radius(value)
    for value in (1.5, 256, -8, "16/8", Fraction(16, 3)):
        with pytest.raises(ConfigError, match=r"in pixel units before normalisation, not [^;]*\.$"):
            checks.radius(value)
    with pytest.raises(ConfigError, match=r"not 'eight'; 0\.1, a text as '8/255', or where radii differ a list"):
        checks.radius("eight")


@pytest.mark.parametrize("value", [0, 1, 0.25, Fraction(1, 4), np.float32(0.25), np.float64(0.25)])
def test_radii_become_pythons_floats(value: Any) -> None:
    assert type(checks.radius(value)) is float
    assert checks.radius(value) == float(value)


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), (" 0.1 ", 0.1), ("1e-2", 0.01), (".5", 0.5), ("1/1", 1.0)]
)
def test_radii_may_be_written(text: str, value: float) -> None:
    assert checks.radius(text) == value


@pytest.mark.parametrize("value", ["quantum", "meta", "cuda:99", 1.5, [], 10**30])
def test_devices_that_are_not_there(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"device .*use cpu"):
        checks.existing_device(value)


BAD_NUMBERS = {
    "NumPy": (np.zeros((2, 2)), "torch.from_numpy"),
    "list": ([0.0], "not list"),
    "bytes": (torch.zeros(2, dtype=torch.uint8), "divide bytes by 255"),
    "complex": (torch.zeros(2, dtype=torch.complex64), "not torch.complex64"),
    "eight bits": (torch.zeros(2).to(torch.float8_e4m3fn), "not torch.float8"),
    "sparse": (torch.eye(2).to_sparse(), "dense"),
    "meta": (torch.zeros(2, device="meta"), "meta device"),
}


@pytest.mark.parametrize(("value", "words"), BAD_NUMBERS.values(), ids=BAD_NUMBERS)
def test_what_is_no_dense_tensor_of_numbers(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^images .*{words}"):
        checks.dense_numbers("images", value)


CPU = torch.device("cpu")
BAD_LABELS = {
    "none": (None, "whole numbers"),
    "ragged": ([[0], [1, 2]], "whole numbers"),
    "text": ("ab", "whole numbers"),
    "huge": ([10**30, 0], "whole numbers"),
    "floats": ([0.0, 1.0], "long"),
    "truths": (torch.tensor([True, False]), "whole numbers"),
    "short": ([0], r"shape \(2,\)"),
    "table": (torch.zeros(1, 2, dtype=torch.int64), r"shape \(2,\)"),
    "large": ([0, 3], "image 1 has a label outside 0 .. 2"),
    "negative": ([-1, -1], "image 0 has a label outside 0 .. 2.* 1 others"),
    "meta": (torch.zeros(2, dtype=torch.int64, device="meta"), "dense"),
}


@pytest.mark.parametrize(("value", "words"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_what_are_no_labels(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"label.*{words}|{words}"):
        checks.class_labels(value, count=2, num_classes=3, device=CPU)


@pytest.mark.parametrize("value", [[2, 0], (2, 0), np.array([2, 0]), torch.tensor([2, 0], dtype=torch.uint8)])
def test_labels_become_one_type(value: Any) -> None:
    labels = checks.class_labels(value, count=2, num_classes=3, device=CPU)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [2, 0]
