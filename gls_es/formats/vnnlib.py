"""VNN-LIB specifications, read as exact properties."""

from __future__ import annotations

from pathlib import Path

from gls_es.basics.property import Property
from gls_es.errors import FormatError
from gls_es.formats import vnnlib1
from gls_es.formats.files import read_file
from gls_es.formats.vnnlib_text import Wrong, commands

LARGEST = 2**26
"""Bytes of the largest specification that is read."""


def read_vnnlib(path: str | Path) -> Property:
    """Read a specification.

    Raises:
        FormatError: the file is missing or damaged, or says something that is not supported; the message says what.
    """
    path = Path(path)
    data = read_file(path, largest=LARGEST)
    try:
        return parse_vnnlib(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a VNN-LIB file (it is no text).") from error
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error.__cause__


def parse_vnnlib(text: str) -> Property:
    """The property of a specification's text.

    Raises:
        FormatError: it is damaged, or says something that is not supported.
    """
    try:
        return vnnlib1.property_of(commands(text))
    except Wrong as reason:
        raise FormatError(f"not a specification that can be read ({reason}).") from reason
