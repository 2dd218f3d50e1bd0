"""An answer in time: what is said when the time is over, whatever the work is in the middle of."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType


class Deadline:
    """A moment at which the process says something and ends, unless its answer was given before.

    Reading a large file or bounding a large network cannot be interrupted; a thread of its own does not wait for them.

    Args:
        seconds: from now; None for never.
        late: what to do then; after it the process ends with status 0.
    """

    def __init__(self, seconds: float | None, late: Callable[[], None]) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._late = late
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Deadline:
        """Start to watch."""
        if self._end is not None:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop to watch."""
        self.answered()

    def left(self) -> float | None:
        """Seconds that the work may still take, so that its own answer is in time; None for any."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        return max(left - min(0.5, 0.1 * left), 1e-3)

    def answered(self) -> None:
        """Say that the answer is about to be given; from now on the moment passes unnoticed."""
        with self._lock:
            self._over.set()

    def _watch(self) -> None:
        assert self._end is not None
        if self._over.wait(max(self._end - time.monotonic(), 0.0)):
            return
        with self._lock:
            if self._over.is_set():
                return
            try:
                self._late()
                sys.stdout.flush()
            finally:
                os._exit(0)
