"""Reading a published file only if it is that file, to the last byte.

Size and SHA-256 are those of the unpacked content, so a gzip copy made by anyone passes, and they are checked on the
bytes in memory that are then parsed: nothing can change in between, and nothing unverified is ever unpickled.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gls_es.errors import DataError


@dataclass(frozen=True)
class PublishedFile:
    """What a file of a dataset has to be.

    Attributes:
        name: file name without folder and without ``.gz``.
        size: bytes, unpacked.
        sha256: hex digest of the unpacked content.
    """

    name: str
    size: int
    sha256: str


def find(file: PublishedFile, folders: Iterable[Path]) -> Path | None:
    """The first path that holds ``file``, unpacked or as ``.gz``, in the order of ``folders``, or None."""
    candidates = (folder / name for folder in folders for name in (file.name, f"{file.name}.gz"))
    return next((path for path in candidates if os.path.isfile(path)), None)  # False, no error, if denied


def read(file: PublishedFile, path: Path) -> bytes:
    """The unpacked, verified content of ``path``.

    Args:
        file: what has to be in there.
        path: where it is; unpacked on the way if the name ends in ``.gz``.

    Raises:
        DataError: if the file cannot be read or is not the published one (damaged, cut off, a web page saved instead).
    """
    mend = "delete it and put the published file there"
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(file.size + 1)  # no more, whatever a hostile archive would unpack to
    except EOFError as error:
        raise DataError(f"{path} is cut off: the gzip stream ends early; {mend}.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is no intact gzip file (a web page saved in its place?): {error}; {mend}.") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}; check the file and its permissions."
        ) from error
    return verified(file, content, path)


def verified(file: PublishedFile, content: bytes, path: Path) -> bytes:
    """The content, if it is the published file's.

    Args:
        file: what it has to be.
        content: unpacked, at most a byte longer than that.
        path: where it comes from, for the message.

    Raises:
        DataError: it is not.
    """
    mend = "delete it and put the published file there"
    if len(content) != file.size:
        found = f"{len(content):,}" if len(content) < file.size else f"more than {file.size:,}"
        raise DataError(f"{path} is not the published file: {found} bytes, not {file.size:,}; {mend}.")
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(f"{path} is damaged: SHA-256 {digest[:12]}..., not {file.sha256[:12]}...; {mend}.")
    return content
