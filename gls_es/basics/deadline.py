"""When to stop: a point in time that long computations look at, from loop to loop."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Self


class OutOfTime(Exception):
    """A computation was given up because its time was over; whoever set the deadline catches it."""


@dataclass(frozen=True)
class Deadline:
    """A point in time.

    Attributes:
        until: on the clock of ``time.perf_counter``, seconds; infinite: never.
    """

    until: float = math.inf

    @classmethod
    def after(cls, seconds: float) -> Self:
        """So many seconds from now."""
        return cls(time.perf_counter() + seconds)

    @property
    def left(self) -> float:
        """Seconds that are left, negative afterwards."""
        return self.until - time.perf_counter()

    def late(self) -> bool:
        """Whether it has passed."""
        return self.until < math.inf and time.perf_counter() > self.until

    def check(self) -> None:
        """Give up if it has passed.

        Raises:
            OutOfTime: it has.
        """
        if self.late():
            raise OutOfTime


NEVER = Deadline()
"""No limit of time."""
