"""The result file of a specification: gone at the start, whole at the end."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gls_es.errors import ConfigError


def remove_stale(path: Path | None) -> None:
    """Remove the result of an earlier run, so that nobody takes it for that of this one.

    Raises:
        ConfigError: it cannot be removed.
    """
    if path is None:
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--result {path}: an older file cannot be removed ({error.strerror}).") from error


def leave_word(path: Path | None, word: str) -> None:
    """Write a result that is one word; that it cannot be written is no reason to say nothing."""
    from gls_es.basics.atomic import write_atomically

    if path is not None:
        with contextlib.suppress(OSError):
            write_atomically(path, f"{word}\n".encode())
