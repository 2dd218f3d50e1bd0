"""VNN-LIB specifications of either version, read as exact properties."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gls_es.basics.memory import physical_memory
from gls_es.basics.property import Property
from gls_es.errors import FormatError
from gls_es.formats import vnnlib1, vnnlib2
from gls_es.formats.files import read_file, unpacked
from gls_es.formats.vnnlib2 import Declarations
from gls_es.formats.vnnlib_text import Expression, Wrong, commands

SHARE = 64
"""What share of a machine's memory a specification may have bytes: what is read takes some dozens of times as much."""
LEAST = 2**26
"""Bytes of specifications that are read in any case."""
VERSIONS = ("1.0", "2.0")
"""The versions of the language that are read."""


@dataclass(frozen=True)
class Query:
    """A specification.

    Attributes:
        property: what must not happen.
        declared: the network, inputs and outputs by name, of version 2; None for version 1, which numbers them.
    """

    property: Property
    declared: Declarations | None


def read_vnnlib(path: str | Path) -> Property:
    """The property of a specification in a file; see :func:`read_query`."""
    return read_query(path).property


def largest_specification() -> int:
    """Bytes of the largest specification that is read here, unpacked."""
    return max(LEAST, (physical_memory() or 0) // SHARE)


def read_query(path: str | Path) -> Query:
    """Read a specification, which may be compressed by gzip.

    Raises:
        FormatError: the file is missing or damaged, or says something that is not supported; the message says what.
    """
    path = Path(path)
    largest = largest_specification()
    data = unpacked(path, read_file(path, largest=largest), largest=largest)
    try:
        return parse_query(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a VNN-LIB file (it is no text).") from error
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error.__cause__


def parse_vnnlib(text: str) -> Property:
    """The property of a specification's text; see :func:`parse_query`."""
    return parse_query(text).property


def parse_query(text: str) -> Query:
    """A specification's text; its first command says which version it is of.

    Raises:
        FormatError: it is damaged, or says something that is not supported.
    """
    try:
        version, given = _version(commands(text))
        if version == 1:
            return Query(vnnlib1.property_of(given), None)
        declared, prop = vnnlib2.query_of(given)
        return Query(prop, declared)
    except Wrong as reason:
        raise FormatError(f"not a specification that can be read ({reason}).") from reason


def _version(given: Iterator[Expression]) -> tuple[int, Iterable[Expression]]:
    first = next(given, None)
    if first is None:
        return 1, ()
    return 2 if first and first[0] == "vnnlib-version" else 1, chain([first], given)
