"""Arguments that many entrances take, checked in one way: what was wrong and how to mend it, in a sentence."""

from __future__ import annotations

import math
import operator
import re
from fractions import Fraction
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from gls_es.basics.modes import refuse_fake_tensors, usable
from gls_es.errors import ConfigError, GlsEsError

_WRITTEN = re.compile(r"(\d{1,30}/\d{1,30}|(\d{1,30}\.?\d{0,30}|\.\d{1,30})(e[+-]?\d{1,3})?)", re.IGNORECASE | re.ASCII)
MOST_SEED = 2**63 - 1
"""The largest seed: what a signed number of 64 bits holds."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The formats in which numbers are taken."""


def whole_number(name: str, value: Any, *, least: int, most: float = math.inf) -> int:
    """A whole number (also NumPy's) in ``least .. most``.

    Raises:
        ConfigError: it is none.
    """
    try:
        number = None if isinstance(value, bool | Tensor) else operator.index(value)
    except TypeError:
        number = None
    limit = f"at least {least}" if most == math.inf else f"between {least} and {int(most)}"
    if number is None:
        raise ConfigError(f"{name} must be a whole number, {limit}, not {shown(value)}.")
    if not least <= number <= most:
        raise ConfigError(f"{name} must be {limit}, not {shown(number)}.")
    return number


def seed_number(value: Any) -> int:
    """A seed that every generator takes, in 0 .. 2**63 - 1.

    Raises:
        ConfigError: it is none.
    """
    return whole_number("seed", value, least=0, most=MOST_SEED)


def real_number(name: str, value: Any, wanted: str, *, least: float, most: float = math.inf) -> float:
    """A finite number in ``least .. most``.

    Args:
        name: of the argument.
        value: what was given.
        wanted: the range in words, "between 0 and 1" say.
        least: the least.
        most: the largest.

    Raises:
        ConfigError: it is none.
    """
    number = as_real(value)
    if number is None or not (least <= number <= most and math.isfinite(number)):
        raise ConfigError(f"{name} must be {wanted}, not {shown(value)}.")
    return number


def radius(value: Any, *, most: float = 1.0) -> float:
    """A radius eps as a float in [0, most]; "8/255" and "0.1" are read as on the command line.

    Args:
        value: what was given.
        most: the largest distance of two images; 1 is that of two pixels, sqrt(d) the Euclidean one of d pixels.

    Raises:
        ConfigError: it is none.
    """
    exact = _written(value) if isinstance(value, str) else value
    number = as_real(exact)
    if number is None:
        raise ConfigError(
            f"eps must be one number between 0 and {most:.4g}, in pixel units, not {shown(value)}; 0.1, a text as "
            "'8/255', or where radii differ a list or a tensor of them."
        )
    if not 0 <= number <= most:
        wanted = f"between 0 and {most:.4g}, in pixel units before normalisation"
        whole = most == 1.0 and number in range(2, 256) and "/" not in str(value)
        meant = f"; did you mean '{number:.0f}/255'?" if whole else "."
        raise ConfigError(f"eps must be {wanted}, not {shown(value)}{meant}")
    if vanishes(exact):
        raise ConfigError(
            f"eps must be between 0 and {most:.4g}, in pixel units, and {shown(value)} is too small for a float; "
            "give 0, or a larger one."
        )
    return number


def vanishes(value: Any) -> bool:
    """Whether a number that is not 0 becomes 0 as a float, so that an answer would be about another one."""
    return as_real(value) == 0 and bool(value != 0)


def _written(text: str) -> Fraction | None:
    """A number or a fraction in a text; None if it is neither."""
    try:
        return Fraction(text.strip()) if _WRITTEN.fullmatch(text.strip()) else None
    except ZeroDivisionError:
        return None


def as_real(value: Any) -> float | None:
    """A number of Python, NumPy or ``fractions`` as a float; None for anything else, a bool or a text among it."""
    if isinstance(value, bool | Tensor) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return None


def existing_device(value: Any) -> torch.device:
    """A device on which PyTorch can compute here.

    Raises:
        ConfigError: there is no such device, or it holds no numbers (meta).
    """
    try:
        found = torch.device(value)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise ConfigError(f"unknown device {shown(value)}: use cpu, cuda or cuda:N.") from None
    try:
        if found.type == "meta":
            raise NotImplementedError
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        kind = "CUDA device" if found.type == "cuda" else f"{found.type} device to compute on"
        which = f" {found.index}" if found.type == "cuda" and torch.cuda.is_available() else ""
        raise ConfigError(f"device {str(value)!r}: this PyTorch finds no {kind}{which}; use cpu.") from None
    return found


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory as PyTorch makes one by default: not sparse, nested or on the meta device."""
    return not tensor.is_nested and tensor.layout == torch.strided and not tensor.is_meta


def dense_numbers(name: str, value: Any, *, error: type[GlsEsError] = ConfigError) -> Tensor:
    """A tensor that holds ordinary real numbers: strided, floating, not on the meta device, and none put off.

    Args:
        name: of the argument, a plural.
        value: what was given.
        error: what to raise.
    """
    if not isinstance(value, Tensor):
        hint = "; torch.from_numpy makes one of an array" if type(value).__module__ == "numpy" else ""
        raise error(f"{name} must be a torch.Tensor, not {type(value).__name__}{hint}.")
    refuse_fake_tensors()
    if value.is_nested or value.layout != torch.strided:
        raise error(f"{name} must be a plain dense tensor, not {_layout(value)}; call to_dense() or stack them.")
    if value.is_meta:
        raise error(f"{name} are on the meta device, which holds no numbers; load them to a real one.")
    if value.dtype not in FLOATS:
        hint = "" if value.dtype.is_complex or value.is_floating_point() else "; divide bytes by 255"
        raise error(f"{name} must be floating-point numbers in [0, 1], not {value.dtype}{hint}.")
    return usable(value)


def class_labels(
    labels: Any, *, count: int, num_classes: int, device: torch.device, error: type[GlsEsError] = ConfigError
) -> Tensor:
    """Labels as int64, (count,), each in 0 .. num_classes - 1.

    Args:
        labels: a tensor, a list or an array of whole numbers.
        count: how many there have to be.
        num_classes: K.
        device: where the result is wanted.
        error: what to raise.
    """
    if not isinstance(labels, Tensor):
        try:
            labels = torch.as_tensor(labels, device="cpu")
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise error(
                f"labels must be a tensor or a list of whole numbers, not {shown(labels)} of {type(labels).__name__}."
            ) from None
    if not is_plain(labels):
        raise error("labels must be a plain dense tensor that holds numbers.")
    if tuple(labels.shape) != (count,):
        raise error(f"labels must have the shape ({count},), one per image, not {tuple(labels.shape)}.")
    if labels.is_floating_point() or labels.is_complex() or labels.is_quantized or labels.dtype == torch.bool:
        raise error(f"labels must be whole numbers, not {labels.dtype}; labels.long() makes them so.")
    values: Tensor = labels.detach().to(device, torch.int64)
    wrong = ((values < 0) | (values >= num_classes)).nonzero().flatten().tolist()
    if wrong:
        others = f", and so have {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise error(f"image {wrong[0]} has a label outside 0 .. {num_classes - 1}, as the labels must be{others}.")
    return usable(values)


def _layout(value: Tensor) -> str:
    return "a nested one" if value.is_nested else str(value.layout)


def shown(value: Any) -> str:
    """A value in a message: short, and on one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of a number with thousands of digits, or whatever a class of the user's raises
        return f"{type(value).__name__} that cannot be written out"
    return text if len(text) <= 60 else f"{text[:57]}..."
