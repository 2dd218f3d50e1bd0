"""Reading whole files that may be anything, with one sentence for whatever is wrong, and writing them whole."""

from __future__ import annotations

import hashlib
import stat
import zlib
from pathlib import Path

from gls_es.basics.atomic import write_atomically
from gls_es.errors import FormatError

LARGEST = 2**31 - 1
"""Bytes of the largest file that is read: what a protobuf message can be at most."""


def read_file(path: str | Path, *, largest: int = LARGEST) -> bytes:
    """The bytes of a regular file.

    Raises:
        FormatError: there is no such file, it is no regular file, too large, or cannot be read.
    """
    path = Path(path)
    try:
        found = path.stat()  # before it is opened: a pipe would block, a device never end
        if not stat.S_ISREG(found.st_mode):
            raise FormatError(f"{path}: not a regular file.")
        if found.st_size > largest:
            raise FormatError(f"{path}: {found.st_size:,} bytes; files of up to {largest:,} bytes are read.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FormatError(f"{path}: there is no such file.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise FormatError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def unpacked(path: Path, data: bytes, *, largest: int) -> bytes:
    """A file's contents, decompressed if they are gzip's.

    Raises:
        FormatError: they are damaged, or larger than ``largest`` bytes.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    stream = zlib.decompressobj(wbits=31)
    try:
        found = stream.decompress(data, largest + 1)
    except zlib.error as error:
        raise FormatError(f"{path}: a damaged gzip file ({error}).") from error
    if len(found) > largest:
        raise FormatError(f"{path}: more than {largest:,} bytes when unpacked, and no more are read.")
    if not stream.eof:
        raise FormatError(f"{path}: a damaged gzip file (it ends too early).")
    return found


def write_file(path: str | Path, data: bytes) -> None:
    """Replace a file as a whole: a reader finds the old one or the new one.

    Raises:
        FormatError: it cannot be written; what was there before is intact.
    """
    path = Path(path)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror or error}).") from error


def write_text(path: str | Path, text: str) -> None:
    """:func:`write_file` for text, in UTF-8."""
    write_file(path, text.encode())


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
