"""Look-up by name, and what may have been meant by a name that is none: the one place that words it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from gls_es.errors import ConfigError

_Entry = TypeVar("_Entry")


_ALIKE = 0.62  # of the letters in common


def alike(name: object, known: Iterable[str]) -> list[str]:
    """The known names that ``name`` begins, the first of them, or those that are spelled most alike, if any are."""
    names, start = list(known), str(name)
    begun = [one for one in names if len(start) > 2 and one.startswith(start)]
    close = difflib.get_close_matches(start, names, 3, _ALIKE)
    ratios = [difflib.SequenceMatcher(None, one, start).ratio() for one in close]  # the best one first
    best = [one for one, ratio in zip(close, ratios, strict=True) if ratio == ratios[0]]
    return begun[:1] or sorted(best, key=names.index)


def question(name: object, known: Iterable[str]) -> str:
    """Goes before a list of what there is: "did you mean 'crown'? ", or nothing."""
    found = alike(name, known)
    return f"did you mean {' or '.join(map(repr, found))}? " if found else ""


def ending(name: object, known: Iterable[str], otherwise: str = ".") -> str:
    """Ends a sentence: "; did you mean 'crown'?", or ``otherwise``."""
    asked = question(name, known)
    return f"; {asked.rstrip()}" if asked else otherwise


def named(table: Mapping[str, _Entry], name: object, missing: str) -> _Entry:
    """The entry of ``table`` under ``name``.

    Args:
        table: what there is, by name.
        name: anything that a user gave.
        missing: how the sentence begins if there is none, "unknown method" say.

    Raises:
        ConfigError: there is none; see :func:`unknown`.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise unknown(name, table, missing)


def unknown(name: object, known: Iterable[str], missing: str, *, offer: str = "choose one of") -> ConfigError:
    """The error about a name that is none.

    It reads "unknown method 'crwn': did you mean 'crown'? choose one of ibp, crown."

    Args:
        name: what was given.
        known: the names that there are.
        missing: how the sentence begins.
        offer: what goes before the names.
    """
    names = list(known)
    return ConfigError(f"{missing} {name!r}: {question(name, names)}{offer} {', '.join(names)}.")
