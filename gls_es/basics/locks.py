"""Locks of the operating system on open files: they end with their process, however that ends."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gls_es.basics.regular import check_regular
from gls_es.errors import BusyError

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})


def taken(handle: int) -> bool | None:
    """Take the lock of an open file: whether it was free and is held now; None where there are no such locks.

    Raises:
        OSError: it cannot be asked for.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # a network file system, say
            return None
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def appended_alone(path: Path) -> BinaryIO:
    """A file opened for appending, by one process at a time where the system has locks.

    Raises:
        BusyError: another process, or another such file of this one, appends to it.
        OSError: it is no regular file, or cannot be opened.
    """
    check_regular(path)  # a pipe would wait for its reader
    file = path.open("ab")
    with closed_on_error(file):
        if taken(file.fileno()) is False:
            raise BusyError(f"{path}: another process writes to it; wait until it ends, or choose another file.")
    return file


@contextmanager
def closed_on_error(file: BinaryIO) -> Iterator[None]:
    """Close a file, and let others have it, if what is done meanwhile fails."""
    try:
        yield
    except BaseException:
        file.close()
        raise
