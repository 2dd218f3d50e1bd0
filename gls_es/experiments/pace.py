"""How a budget is kept to on a machine that others use, too.

Generations are measured in processor time, so that every cell gets as much work whatever happens beside it. A budget is
time on the clock. The measuring itself tells how the two go together.
"""

from __future__ import annotations

import time

import torch

LEAST = 1.0
"""Seconds of measuring below which it tells nothing."""
SHARE_LEFT = 0.5
"""Of the training time, what is left of it at least, however long measuring took and certification may take."""


class Pace:
    """A look at both clocks, from now on."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    @property
    def spent(self) -> float:
        """Seconds on the clock since then."""
        return time.perf_counter() - self._clock

    @property
    def slowdown(self) -> float:
        """Seconds on the clock for a second of this process on all of its threads; at least 1."""
        worked = (time.process_time() - self._processor) / torch.get_num_threads()
        return max(1.0, self.spent / worked) if worked > 0 and self.spent >= LEAST else 1.0

    def share(self, planned: float, beside: float) -> float:
        """The part of the work planned that fits into its time, from what was measured since then.

        Args:
            planned: seconds for the work, those since then included.
            beside: seconds of them that something else needs.
        """
        return max(SHARE_LEFT, 1.0 - (self.spent + beside) / planned) / self.slowdown
