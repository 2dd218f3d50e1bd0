"""Only regular files: a device never ends or is destroyed by being replaced, and a pipe blocks whoever opens it."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def check_regular(path: Path) -> None:
    """Refuse what is there but is no regular file, links followed; a path where nothing is passes.

    Raises:
        OSError: it is a folder, a device, a pipe or a socket.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
