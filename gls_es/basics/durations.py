"""Times as people write them: 90, 90s, 10m, 1.5h."""

from __future__ import annotations

import math
import re
from numbers import Real
from typing import Self

from gls_es.errors import ConfigError

_TEXT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|m|h|d|)\s*", re.IGNORECASE)
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Running(float):
    """Seconds of which some are over.

    Attributes:
        since: when they began, by ``time.perf_counter``.
    """

    since: float

    @classmethod
    def begun(cls, seconds: float, since: float) -> Self:
        """Seconds that began at a time."""
        made = cls(seconds)
        made.since = since
        return made


def seconds_in(name: str, value: object) -> float:
    """The number of seconds.

    Args:
        name: of the argument, for the message.
        value: a positive number of seconds, or a text with a unit: s, m, h or d.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        found = float(value)
    else:
        match = _TEXT.fullmatch(value) if isinstance(value, str) else None
        found = math.nan if match is None else float(match[1]) * _SECONDS[match[2].lower()]
    if not 0 < found < math.inf:
        raise ConfigError(f"{name} must be a positive time, 90s, 10m or 1.5h say, not {value!r}.")
    return found
