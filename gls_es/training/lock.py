"""One process at a time in a run folder.

The lock is the operating system's, on an open file, so it ends with its process, however that ends: there is no stale
lock to clean up. The file holds who locked it, for the message, and for file systems that know no locks.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from gls_es.basics.locks import taken
from gls_es.errors import BusyError


class FolderLock:
    """Held from construction to :meth:`release`.

    Args:
        path: the lock file; created if missing, and left in place, for deleting it would race with the next owner.

    Raises:
        BusyError: another process, or another lock of this one, holds it.
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            owner = _read_owner(self._handle)
            if not _lock(self._handle, owner):
                raise BusyError(
                    f"{path.parent}: in use by process {owner.get('pid', '?')} on {owner.get('host', 'this machine')}; "
                    "wait until it ends, or choose another folder."
                )
            _write_owner(self._handle, {"pid": os.getpid(), "host": socket.gethostname()})
        except BaseException:
            os.close(self._handle)
            self._handle = None
            raise

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None


def _lock(handle: int, owner: dict[str, Any]) -> bool:
    """Whether the lock was free and is now held."""
    found = taken(handle)
    return not _alive(owner) if found is None else found  # without locks the owner that the file names has to do


def _alive(owner: dict[str, Any]) -> bool:
    """Whether the named owner may still run; one on another machine cannot be asked."""
    pid, host = owner.get("pid"), owner.get("host")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _read_owner(handle: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.read(handle, 4096))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _write_owner(handle: int, owner: dict[str, Any]) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps(owner).encode())
