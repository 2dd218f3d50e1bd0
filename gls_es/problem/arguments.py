"""Arguments of a problem: as checkpoints hold them, and checked."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np
import torch

from gls_es.basics.checks import real_number, whole_number
from gls_es.bounds import METHODS
from gls_es.errors import ConfigError
from gls_es.fitness import loss_named

_T = TypeVar("_T")


def plain_argument(value: Any) -> Any:
    """An argument as checkpoints hold it: Python's own numbers, and texts for devices and paths."""
    if isinstance(value, torch.device | PurePath):
        return str(value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value).clone()
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def held(name: str, value: _T, holds: bool, wanted: str) -> _T:
    """A value that holds.

    Raises:
        ConfigError: it does not; ``wanted`` says what would.
    """
    if not holds:
        raise ConfigError(f"{name} must be {wanted}, not {value!r}.")
    return value


def check_actors(count: Any, gpus: Any, config: Any) -> None:
    """Refuse what EvoTorch would stumble over; it knows words like "max" besides numbers.

    Args:
        count: actors.
        gpus: GPUs of each.
        config: options of Ray.

    Raises:
        ConfigError: one makes no sense.
    """
    if not (count is None or isinstance(count, str)):
        whole_number("num_actors", count, least=0)
    if not (gpus is None or isinstance(gpus, str)):
        real_number("num_gpus_per_actor", gpus, "at least 0", least=0)
    held("actor_config", config, config is None or isinstance(config, dict), "a dict of Ray's options")


def check_norm(norm: str, method: str, loss: str) -> None:
    """Refuse what knows no L2 balls.

    Args:
        norm: one of ``gls_es.bounds.NORMS``.
        method: a relaxation.
        loss: a loss.

    Raises:
        ConfigError: norm is "l2", and the relaxation has no bounds there, or the loss attacks in boxes.
    """
    if norm != "l2":
        return
    if loss_named(loss).attacks:
        raise ConfigError(f"loss {loss!r} attacks in L∞ boxes; with norm='l2' choose robust or crown-ibp.")
    if not METHODS[method].balls:
        known = ", ".join(name for name, one in METHODS.items() if one.balls)
        raise ConfigError(f"method {method!r} has no bounds on L2 balls; choose one of {known}.")
