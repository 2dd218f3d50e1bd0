"""Ctrl-C and SIGTERM while a network is trained: the first one asks, the second one ends the work at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_NOTE = "stopping: this generation is finished and saved first; a second signal stops at once."


class StopSignals:
    """Turns the first signal into a request to stop after this generation, and the second into KeyboardInterrupt.

    A third one has its usual meaning again. A context manager; outside the main thread it does nothing.

    Args:
        note: told, in a sentence for people, that the request has come.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.received: int | None = None
        self._note = note
        self._previous: dict[int, Any] = {}

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._restore()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self._restore()
            raise KeyboardInterrupt
        self.received = number
        with contextlib.suppress(Exception):  # it may have come in the middle of writing to the same place
            self._note(_NOTE)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
