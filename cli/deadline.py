"""An answer in time: what is said when the time is over, whatever the work is in the middle of."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from gls_es.errors import ConfigError

T = TypeVar("T")


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


def answer_in_time(
    work: Callable[[Deadline], tuple[T, str]],
    late: Callable[[], None],
    *,
    seconds: float | None,
    result: Path | None,
    word: str,
) -> T:
    """Do what ends with an answer, whose file is there whatever happens, be it that the process is killed.

    Args:
        work: gives the answer, and the text of its file; it should look at the deadline.
        late: says that the time is over, after which the process ends with status 0.
        seconds: how long it may take; None for any time.
        result: the file; None for none. An older one is gone from the start, and ``word`` in its place.
        word: what the file says until there is an answer.

    Returns:
        The answer. If there is none but an error, the file says "unknown".

    Raises:
        ConfigError: an older file cannot be removed.
    """
    _remove_stale(result)
    _leave_word(result, word)
    with Deadline(seconds, late) as deadline:
        try:
            answer, text = work(deadline)
        except Exception:
            deadline.answered()
            _leave_word(result, "unknown")
            raise
        deadline.answered()
    if result is not None:
        from gls_es.formats import write_text

        write_text(result, text)
    return answer


def _remove_stale(path: Path | None) -> None:
    """Remove the result of an earlier run, so that nobody takes it for that of this one."""
    if path is None:
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--result {path}: an older file cannot be removed ({error.strerror}).") from error


def _leave_word(path: Path | None, word: str) -> None:
    """Write a result that is one word; that it cannot be written is no reason to say nothing."""
    from gls_es.basics.atomic import write_atomically

    if path is not None:
        with contextlib.suppress(OSError):
            write_atomically(path, f"{word}\n".encode())
