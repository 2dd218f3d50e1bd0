"""Files that are either the old ones or the new ones, whatever kills the process or fills the disk.

The data goes to a temporary file in the same folder, is synchronised to the disk, and then takes the file's name in one
step (``os.replace``). What a killed process leaves behind is found by :func:`remove_leftovers`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from gls_es.basics.regular import check_regular

_LEFTOVER = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")


def write_atomically(path: Path, data: bytes) -> None:
    """Give ``path`` the contents ``data``, all or nothing.

    Raises:
        OSError: the file cannot be written, or is there and is no regular file; what was there before is intact and no
            temporary file remains.
    """
    check_regular(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        # O_EXCL: a link that somebody laid out under this name is not followed. 0o666 leaves the mode to the umask.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _synchronise(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed writers left in ``folder``; call it only while no writer is at work.

    Raises:
        OSError: the folder cannot be read, or a leftover not be deleted.
    """
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _synchronise(folder: Path) -> None:
    """Make the new name durable; where folders cannot be synchronised the file is in place all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
